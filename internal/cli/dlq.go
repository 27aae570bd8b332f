package cli

import (
	"context"
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/vigie-io/vigie/internal/app"
	"github.com/vigie-io/vigie/internal/config"
	"github.com/vigie-io/vigie/internal/kafka"
)

const dlqUsage = `usage: vigie dlq list   [-reason r] [-topic t] [-tenant t] [-since 1h] [-until 10m] [-limit 50] [flags]
       vigie dlq show   <partition>/<offset> [flags]
       vigie dlq replay <partition>/<offset>… [-dry-run] [flags]
       vigie dlq replay -all [-reason r] [-topic t] [-tenant t] [-since 1h] [-until 10m] [-dry-run] [flags]

Shows records and events that were refused, and puts them back after the cause is repaired. A replay is safe to run twice:
what was replayed is remembered and not replayed again.

  -reason          of this reason only, as list prints it
  -topic, -tenant  from this topic, of this tenant
  -since, -until   refused in this time: ago, or as 2006-01-02T15:04:05Z
  -limit           how many of the newest to list; default 50
  -all             replay all that the filters leave
  -dry-run         say what would be replayed, and change nothing
`

func dlq(ctx context.Context, _ string, args []string, s Streams) int {
	if len(args) == 0 || !slices.Contains([]string{"list", "show", "replay"}, args[0]) {
		return unknownVerb(s, "vigie dlq", dlqUsage, args, "list, show or replay")
	}
	request, rest, err := parseDLQ(args[1:], time.Now())
	if err != nil {
		return misused(s, "vigie dlq", err)
	}
	loaded, code, done := load("vigie dlq "+args[0], rest, s)
	if done {
		return code
	}
	letters := app.DeadLetters(loaded.Config, loaded.Config.Logger(s.Err))
	switch args[0] {
	case "list":
		if len(request.at) > 0 {
			err = usageError("list takes no dead letters, but filters; `vigie dlq show` shows one")
			break
		}
		err = listDeadLetters(ctx, letters, request, s.Out)
	case "show":
		err = showDeadLetters(ctx, letters, request, s.Out)
	case "replay":
		err = replayDeadLetters(ctx, letters, request, s.Out)
	}
	if err != nil {
		return fail(s, "vigie dlq", err)
	}
	return exitOK
}

// dlqRequest is what the command line selects.
type dlqRequest struct {
	filter kafka.Filter
	at     []kafka.Position
	limit  int
	all    bool
	dryRun bool
}

// parseDLQ takes its own flags and positions out of args and leaves the configuration's in rest.
func parseDLQ(args []string, now time.Time) (request dlqRequest, rest []string, err error) {
	set := flag.NewFlagSet("dlq", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.StringVar(&request.filter.Reason, "reason", "", "")
	set.StringVar(&request.filter.Topic, "topic", "", "")
	set.StringVar(&request.filter.Tenant, "tenant", "", "")
	since, until := set.String("since", "", ""), set.String("until", "", "")
	set.IntVar(&request.limit, "limit", 50, "")
	set.BoolVar(&request.all, "all", false, "")
	set.BoolVar(&request.dryRun, "dry-run", false, "")
	own, others := splitFlags(set, args)
	for i, arg := range others {
		if strings.HasPrefix(arg, "-") || i > 0 && takesValue(others[i-1]) {
			rest = append(rest, arg)
			continue
		}
		at, err := parsePosition(arg)
		if err != nil {
			return request, nil, err
		}
		request.at = append(request.at, at)
	}
	if err := set.Parse(own); err != nil {
		return request, nil, err
	}
	if request.filter.Since, err = parseTime(*since, now); err != nil {
		return request, nil, fmt.Errorf("-since %w", err)
	}
	if request.filter.Until, err = parseTime(*until, now); err != nil {
		return request, nil, fmt.Errorf("-until %w", err)
	}
	if request.limit < 1 {
		return request, nil, fmt.Errorf("-limit %d: want 1 or more", request.limit)
	}
	return request, rest, nil
}

// takesValue says that the argument behind a configuration flag belongs to it ("-config file").
func takesValue(arg string) bool {
	name := strings.TrimLeft(arg, "-")
	return name != arg && !strings.Contains(name, "=") && !slices.Contains(config.Switches, name)
}

func parsePosition(text string) (kafka.Position, error) {
	partition, offset, ok := strings.Cut(text, "/")
	p, err1 := strconv.ParseInt(partition, 10, 32)
	o, err2 := strconv.ParseInt(offset, 10, 64)
	if !ok || err1 != nil || err2 != nil || p < 0 || o < 0 {
		return kafka.Position{}, fmt.Errorf("dead letter %q: want <partition>/<offset>, as `vigie dlq list` prints it", text)
	}
	return kafka.Position{Partition: int32(p), Offset: o}, nil
}

func listDeadLetters(ctx context.Context, letters *kafka.DeadLetters, request dlqRequest, out io.Writer) error {
	found, err := letters.List(ctx, request.filter, request.limit)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		fmt.Fprintln(out, "no dead letters match")
		return nil
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "AT\tTIME\tTENANT\tREASON\tSOURCE\tEVENTS\tBYTES\tDETAIL")
	for _, d := range found {
		fmt.Fprintf(table, "%d/%d\t%s\t%s\t%s\t%s\t%s\t%d\t%s\n", d.Partition, d.Offset, d.Time.UTC().Format(time.RFC3339),
			printable(d.Tenant(), 24), d.Reason, source(&d), events(d.Events), len(d.Value), printable(d.Detail, 100))
	}
	return table.Flush()
}

func showDeadLetters(ctx context.Context, letters *kafka.DeadLetters, request dlqRequest, out io.Writer) error {
	if len(request.at) == 0 {
		return usageError("show which? give <partition>/<offset>")
	}
	for _, at := range request.at {
		d, err := letters.Show(ctx, at)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "dead letter  %d/%d\n", d.Partition, d.Offset)
		fmt.Fprintf(out, "time         %s\n", d.Time.UTC().Format(time.RFC3339Nano))
		fmt.Fprintf(out, "tenant       %s\n", printable(d.Tenant(), 80))
		fmt.Fprintf(out, "reason       %s\n", d.Reason)
		fmt.Fprintf(out, "detail       %s\n", printable(d.Detail, 1000))
		fmt.Fprintf(out, "source       %s\n", source(&d))
		fmt.Fprintf(out, "events       %s\n", events(d.Events))
		fmt.Fprintf(out, "key          %s\n", printable(string(d.Key), 200))
		for _, h := range d.Headers {
			fmt.Fprintf(out, "header       %s: %s\n", printable(h.Key, 80), printable(string(h.Value), 200))
		}
		fmt.Fprintf(out, "value        %d bytes\n%s\n", len(d.Value), printable(string(d.Value), 1<<16))
	}
	return nil
}

func replayDeadLetters(ctx context.Context, letters *kafka.DeadLetters, request dlqRequest, out io.Writer) error {
	if len(request.at) == 0 && !request.all {
		return usageError("replay which? give <partition>/<offset>, or -all with a filter")
	}
	if len(request.at) > 0 && request.all {
		return usageError("-all and single dead letters exclude each other")
	}
	done, err := letters.Replay(ctx, kafka.Selection{At: request.at, Filter: request.filter, DryRun: request.dryRun})
	if err != nil {
		return err
	}
	verb := "replayed"
	if request.dryRun {
		verb = "would replay"
	}
	_, err = fmt.Fprintf(out, "%d selected, %s %d, %d replayed before, %d cannot be replayed\n",
		done.Matched, verb, done.Replayed, done.Already, done.Unreplayable)
	return err
}

func source(d *kafka.DeadLetter) string {
	if d.SourceTopic == "" {
		return "unknown"
	}
	return fmt.Sprintf("%s/%d@%d", d.SourceTopic, d.SourcePartition, d.SourceOffset)
}

func events(indexes string) string {
	if indexes == "" {
		return "all"
	}
	return indexes
}

// printable keeps a terminal safe from what a producer sent: control characters are escaped, at most limit bytes.
func printable(text string, limit int) string {
	if len(text) > limit {
		text = text[:limit] + "…"
	}
	for _, r := range text {
		if r == utf8.RuneError || r < ' ' && r != '\t' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return strconv.Quote(text)
		}
	}
	return text
}

package cli

import (
	"context"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/vigie-io/vigie/internal/app"
	"github.com/vigie-io/vigie/internal/backfill"
	"github.com/vigie-io/vigie/internal/config"
	"github.com/vigie-io/vigie/internal/pipeline/rollup"
	"github.com/vigie-io/vigie/internal/pipeline/verify"
	"github.com/vigie-io/vigie/internal/tenants"
)

const verifyUsage = `usage: vigie verify -from <topic> [-from 'dir/*.parquet' [-job backfill]]
                    [-table rollups_10s|…|windows|all] [-tenant t] [-since 2h] [-until 10m] [-show 20]
                    [-memory 512MiB] [-wait 2m] [-metrics file.prom] [flags]

Counts the topic's raw records again and compares every tenant, series and complete pane or closed window with ClickHouse.
Exit code 1: there are differences; 2: an error. docs/verify.md says more.

  -from            a source topic, and files that vigie backfill has loaded: all of one -job; either can stand alone
  -job             the job that loaded the files; default backfill
  -table           the table to compare, or all; default rollups_10s
  -tenant          compare one tenant only
  -since, -until   compare panes of this time only: ago, or as 2006-01-02T15:04:05Z
  -show            how many differences to print of a table; default 20
  -memory          what the recount may take; what does not fit is read in several turns; default 512MiB
  -wait            how long to wait until what was sent before the start is stored; default 2m
  -metrics         leave the result in this file, for the node exporter's textfile collector
`

// exitError is how verify and audit end when the comparison itself did not succeed: 1 is for differences.
const exitError = 2

// verifyRequest is what the command line asks for.
type verifyRequest struct {
	app.Verification
	tables  []verify.Table
	show    int
	metrics string
}

func verifyTopic(ctx context.Context, _ string, args []string, s Streams) int {
	request, rest, err := parseVerify(args, time.Now())
	if err != nil {
		return misused(s, "vigie verify", err)
	}
	loaded, code, done := load("vigie verify", rest, s)
	if done {
		return code
	}
	differences, err := request.run(ctx, loaded.Config, s)
	switch {
	case err != nil:
		fmt.Fprintf(s.Err, "vigie verify: %v\n", err)
		return exitError
	case differences > 0:
		return exitFailure
	}
	return exitOK
}

func (r *verifyRequest) run(ctx context.Context, cfg config.Config, s Streams) (differences int, err error) {
	rows, checks := 0, app.NewChecks("verify", nil)
	var first verify.Summary
	for i, table := range r.tables {
		if table == verify.Windows() && len(r.tables) > 1 && !windowed(&cfg) {
			continue
		}
		of := r.Verification
		of.Table = table
		shown := 0
		sum, err := app.Verify(ctx, cfg, of, cfg.Logger(s.Err), func(d verify.Difference) {
			if shown++; shown <= r.show {
				fmt.Fprintf(s.Out, "%s: %s\n", table.Name, d)
			}
		})
		if err != nil {
			return 0, err
		}
		if i == 0 {
			first = sum
			r.Settled = sum.Settled // one wait is enough: all tables are compared with the same records
		}
		for _, note := range sum.Notes {
			fmt.Fprintf(s.Out, "%s: %s\n", table.Name, note)
		}
		if sum.Open > 0 {
			fmt.Fprintf(s.Out, "%s: %d windows are open\n", table.Name, sum.Open)
		}
		fmt.Fprintf(s.Out, "%s: %d rows compared, %d not comparable, %s (read %d times)\n", table.Name, sum.Rows,
			sum.Incomparable, count(&sum), sum.Passes)
		rows += sum.Rows
		differences += sum.Differences
		checks.Found(r.of(), table.Name, sum.Differences)
	}
	fmt.Fprintf(s.Out, "%s: %d records, %d events counted, %d refused, %d rows compared: %d differences\n",
		r.of(), first.Records, first.Events, first.Refused, rows, differences)
	return differences, checks.Write(r.metrics)
}

// of says what is counted.
func (r *verifyRequest) of() string {
	switch {
	case len(r.Files) == 0:
		return r.Topic
	case r.Topic == "":
		return "files of job " + r.Job
	}
	return r.Topic + " and files of job " + r.Job
}

// windowed says whether there are rollups with windows.
func windowed(cfg *config.Config) bool {
	return slices.ContainsFunc(cfg.Stream.Rollups, func(r rollup.Declared) bool { return r.Window != nil })
}

func count(sum *verify.Summary) string {
	if sum.Partial {
		return fmt.Sprintf("%d differences and more", sum.Differences)
	}
	return fmt.Sprintf("%d differences", sum.Differences)
}

// parseVerify takes its own flags out of args and leaves the configuration's in rest.
func parseVerify(args []string, now time.Time) (r verifyRequest, rest []string, err error) {
	set := flag.NewFlagSet("verify", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.Func("from", "", func(text string) error {
		switch {
		case backfill.IsPattern(text):
			r.Files = append(r.Files, text)
		case r.Topic != "":
			return fmt.Errorf("want one topic, and files beside it")
		default:
			r.Topic = text
		}
		return nil
	})
	set.StringVar(&r.Job, "job", "", "")
	table := set.String("table", "rollups_10s", "")
	tenant := set.String("tenant", "", "")
	since, until := set.String("since", "", ""), set.String("until", "", "")
	set.IntVar(&r.show, "show", 20, "")
	set.StringVar(&r.metrics, "metrics", "", "")
	memory := set.String("memory", "512MiB", "")
	set.DurationVar(&r.Wait, "wait", 2*time.Minute, "")
	own, rest := splitFlags(set, args)
	if err := set.Parse(own); err != nil {
		return r, nil, err
	}
	r.Tenant, r.Now = tenants.ID(*tenant), now
	if err := r.check(); err != nil {
		return r, nil, err
	}
	if r.Since, err = parseTime(*since, now); err != nil {
		return r, nil, fmt.Errorf("-since %w", err)
	}
	if r.Until, err = parseTime(*until, now); err != nil {
		return r, nil, fmt.Errorf("-until %w", err)
	}
	if err := r.Memory.UnmarshalText([]byte(*memory)); err != nil || r.Memory < 1<<20 {
		return r, nil, fmt.Errorf("-memory %q: want 1MiB or more", *memory)
	}
	r.tables, err = parseTables(*table, append(verify.Tables(), verify.Windows()))
	r.Merged = slices.ContainsFunc(r.tables, verify.Table.Merged) // the wait for the first is that for all
	return r, rest, err
}

// check says what is wrong with what is to be counted, and completes it.
func (r *verifyRequest) check() error {
	switch {
	case r.Topic == "" && len(r.Files) == 0:
		return fmt.Errorf("-from: want a source topic, such as vigie.metrics.v1, or files of a backfill, or both")
	case len(r.Files) == 0 && r.Job != "":
		return fmt.Errorf("-job %s: want -from with its files", r.Job)
	case len(r.Files) > 0 && r.Job == "":
		r.Job = "backfill"
	}
	if r.Tenant == "" {
		return nil
	}
	return tenants.Validate(r.Tenant)
}

// parseTables finds a table by its name, or all.
func parseTables(name string, tables []verify.Table) ([]verify.Table, error) {
	if name == "all" {
		return tables, nil
	}
	var names []string
	for _, table := range tables {
		if table.Name == name {
			return []verify.Table{table}, nil
		}
		names = append(names, table.Name)
	}
	return nil, fmt.Errorf("-table %q: want all or one of %s", name, strings.Join(names, ", "))
}

// parseTime reads a time, or how long ago it was; "" is the zero time.
func parseTime(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q: want 2h, or 2006-01-02T15:04:05Z", text)
	}
	return at, nil
}

// splitFlags parts the flags that set knows from all others.
func splitFlags(set *flag.FlagSet, args []string) (own, rest []string) {
	for i := 0; i < len(args); i++ {
		name, _, joined := strings.Cut(strings.TrimLeft(args[i], "-"), "=")
		option := set.Lookup(name)
		if !strings.HasPrefix(args[i], "-") || option == nil {
			rest = append(rest, args[i])
			continue
		}
		own = append(own, args[i])
		if !joined && !isSwitch(option) && i+1 < len(args) {
			i++
			own = append(own, args[i])
		}
	}
	return own, rest
}

func isSwitch(option *flag.Flag) bool {
	boolean, ok := option.Value.(interface{ IsBoolFlag() bool })
	return ok && boolean.IsBoolFlag()
}

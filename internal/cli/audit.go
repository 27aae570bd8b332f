package cli

import (
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/vigie-io/vigie/internal/app"
	"github.com/vigie-io/vigie/internal/config"
	"github.com/vigie-io/vigie/internal/pipeline/verify"
)

const auditUsage = `usage: vigie audit results [-repair] [-since 1h] [-table rollups_10s|…|all] [-wait 2m]
                           [-metrics file.prom] [flags]

Compares the result records of panes since then with each table of ClickHouse, and names blocks whose part was lost in a
crash of a single node. Exit code 1: something is missing and was not repaired; 2: an error. docs/verify.md says more.

  -repair          put back what is missing
  -since           panes from then on: ago, or as 2006-01-02T15:04:05Z; default 1h
  -table           the table to compare, or all; default all
  -wait            how long to wait until the results that are there are stored; default 2m
  -metrics         leave the result in this file, for the node exporter's textfile collector
`

// auditRequest is what the command line asks for.
type auditRequest struct {
	app.AuditRequest
	metrics string
}

func auditResults(ctx context.Context, _ string, args []string, s Streams) int {
	if len(args) == 0 || args[0] != "results" {
		return unknownVerb(s, "vigie audit", auditUsage, args, "results")
	}
	request, rest, err := parseAudit(args[1:], time.Now())
	if err != nil {
		return misused(s, "vigie audit", err)
	}
	loaded, code, done := load("vigie audit", rest, s)
	if done {
		return code
	}
	missing, err := request.run(ctx, loaded.Config, s)
	if err != nil {
		fmt.Fprintf(s.Err, "vigie audit: %v\n", err)
		return exitError
	}
	found := "nothing is missing"
	switch {
	case missing > 0 && request.Repair:
		found = fmt.Sprintf("parts of %d blocks missing, repaired", missing)
	case missing > 0:
		found = fmt.Sprintf("parts of %d blocks missing, not repaired", missing)
	}
	fmt.Fprintf(s.Out, "results since %s: %s\n", request.Since.UTC().Format(time.RFC3339), found)
	if missing > 0 && !request.Repair {
		return exitFailure
	}
	return exitOK
}

// run audits table by table, and returns how many parts of blocks were missing.
func (r *auditRequest) run(ctx context.Context, cfg config.Config, s Streams) (missing int, err error) {
	checks := app.NewChecks("audit", nil)
	found := func(table string, a verify.Audited) {
		for _, m := range a.Missing {
			fmt.Fprintln(s.Out, m)
		}
		fmt.Fprintf(s.Out, "%s: %d blocks read, %d rows compared, parts of %d blocks missing, %d rows hold more than the records say\n",
			table, a.Blocks, a.Rows, len(a.Missing), a.Surplus)
		missing += len(a.Missing)
		left := len(a.Missing)
		if r.Repair {
			left = 0
		}
		checks.Found(cfg.Kafka.Topics.Results.Name, table, left)
	}
	if err := app.AuditResults(ctx, cfg, r.AuditRequest, cfg.Logger(s.Err), found); err != nil {
		return missing, err
	}
	return missing, checks.Write(r.metrics)
}

func parseAudit(args []string, now time.Time) (r auditRequest, rest []string, err error) {
	set := flag.NewFlagSet("audit", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	table, since := set.String("table", "all", ""), set.String("since", "1h", "")
	set.DurationVar(&r.Wait, "wait", 2*time.Minute, "")
	set.BoolVar(&r.Repair, "repair", false, "")
	set.StringVar(&r.metrics, "metrics", "", "")
	own, rest := splitFlags(set, args)
	if err := set.Parse(own); err != nil {
		return r, nil, err
	}
	if r.Since, err = parseTime(*since, now); err != nil {
		return r, nil, fmt.Errorf("-since %w", err)
	}
	if r.Since.IsZero() {
		return r, nil, fmt.Errorf("-since: want 1h, or 2006-01-02T15:04:05Z")
	}
	kept := slices.Sorted(maps.Keys(verify.KeptIngest()))
	switch {
	case *table == "all":
		r.Kept = kept
	case slices.Contains(kept, *table):
		r.Kept = []string{*table}
		return r, rest, nil
	}
	if r.Tables, err = parseTables(*table, verify.Tables()); err != nil && *table != "all" {
		err = fmt.Errorf("%w, %s", err, strings.Join(kept, ", "))
	}
	return r, rest, err
}

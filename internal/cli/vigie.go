package cli

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/vigie-io/vigie/internal/app"
	"github.com/vigie-io/vigie/internal/auth"
)

// command is one verb of vigie. run gets the arguments behind the verb.
type command struct {
	name, about string
	run         func(ctx context.Context, version string, args []string, s Streams) int
}

var commands = []command{
	{"dev", "run everything on this machine, on embedded Kafka and ClickHouse, fed with live data", dev},
	{"migrate", "bring ClickHouse's tables up to date (-dry-run shows what would run)", migrate},
	{"dlq", "list, show or replay dead letters", dlq},
	{"verify", "count a topic's records again and compare with ClickHouse", verifyTopic},
	{"backfill", "load files of old events into ClickHouse, each exactly once", backfillFiles},
	{"audit", "`audit results` finds, and repairs, result blocks that a crash of ClickHouse lost", auditResults},
	{"rules", "`rules check` and `rules test` say whether Prometheus rule files are right, as promtool does", ruleFiles},
	{"demo", "produce the demo shop's events to a broker", demoShop},
	{"sql", "run SQL as a tenant, through the query service", runSQL},
	{"keys", "`keys new` makes an API key and shows it once", keys},
	{"config", "`config check` and `config print` read the configuration as the services do", configuration},
}

// Vigie runs the operator's tool and returns the exit code.
func Vigie(version string, args []string, s Streams) int {
	if len(args) == 0 {
		usage(s.Err)
		return exitUsage
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		usage(s.Out)
		return exitOK
	case "version", "-version", "--version":
		fmt.Fprintln(s.Out, "vigie", version)
		return exitOK
	}
	for _, c := range commands {
		if c.name == args[0] {
			ctx, stop := signalContext()
			defer stop()
			return c.run(ctx, version, args[1:], s)
		}
	}
	fmt.Fprintf(s.Err, "vigie: no command %q; `vigie help` lists them\n", args[0])
	return exitUsage
}

func usage(w io.Writer) {
	fmt.Fprint(w, "vigie: the operator's tool of a streaming analytics engine on Kafka\n\nUsage: vigie <command> [flags]\n\n")
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, c := range commands {
		fmt.Fprintf(table, "  %s\t%s\n", c.name, c.about)
	}
	fmt.Fprintf(table, "  version\tprint the version\n")
	_ = table.Flush()
	fmt.Fprint(w, "\nEvery command takes -config file and -<key>=<value>; `vigie <command> -help` says more.\n")
}

func dev(ctx context.Context, version string, args []string, s Streams) int {
	loaded, code, done := load("vigie dev", args, s)
	if done {
		return code
	}
	p := app.Process{Name: "dev", Version: version, Log: loaded.Config.Logger(s.Err), Reread: reread("vigie dev", args, s)}
	if err := app.Dev(ctx, loaded.Config, p, s.Out); err != nil {
		return fail(s, "vigie dev", err)
	}
	return exitOK
}

func migrate(ctx context.Context, version string, args []string, s Streams) int {
	args, dryRun := takeFlag(args, "dry-run")
	loaded, code, done := load("vigie migrate", args, s)
	if done {
		return code
	}
	if err := app.Migrate(ctx, loaded.Config, dryRun, s.Out); err != nil {
		return fail(s, "vigie migrate", err)
	}
	return exitOK
}

// takeFlag removes -name or --name from args, which the configuration does not know.
func takeFlag(args []string, name string) (rest []string, found bool) {
	for _, arg := range args {
		if arg == "-"+name || arg == "--"+name {
			found = true
			continue
		}
		rest = append(rest, arg)
	}
	return rest, found
}

func keys(_ context.Context, _ string, args []string, s Streams) int {
	if len(args) == 0 || args[0] != "new" || len(args) > 2 {
		fmt.Fprintln(s.Err, "usage: vigie keys new [tenant]")
		return exitUsage
	}
	tenant := "<tenant>"
	if len(args) == 2 {
		tenant = args[1]
	}
	plain, digest := auth.NewKey()
	fmt.Fprintf(s.Out, "%s\n", plain)
	fmt.Fprintf(s.Err, `
This is the only time the key is shown. Its place in the configuration:

auth:
  keys:
    - {sha256: %s, tenant: %s, roles: [write, read]}
`, digest, tenant)
	return exitOK
}

func configuration(_ context.Context, _ string, args []string, s Streams) int {
	if len(args) == 0 || (args[0] != "check" && args[0] != "print") {
		fmt.Fprintln(s.Err, "usage: vigie config check|print [-config file] [-<key>=<value>]")
		return exitUsage
	}
	_, code, done := load("vigie config", append([]string{"-" + args[0] + "-config"}, args[1:]...), s)
	if !done {
		panic("BUG: -check-config did not end the command")
	}
	return code
}

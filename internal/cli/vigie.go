package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/vigie-io/vigie/internal/app"
	"github.com/vigie-io/vigie/internal/auth"
	"github.com/vigie-io/vigie/internal/config"
	"github.com/vigie-io/vigie/internal/tenants"
)

// command is one verb of vigie. run gets the arguments behind the verb, none of which asks for help.
type command struct {
	name, about string
	usage       string
	configured  bool // takes the flags of the configuration
	run         func(ctx context.Context, version string, args []string, s Streams) int
}

var commands = []command{
	{"dev", "run everything on this machine, on embedded Kafka and ClickHouse, fed with live data", devUsage, true, dev},
	{"migrate", "bring ClickHouse's tables up to date (-dry-run shows what would run, -print-access who may)",
		migrateUsage, true, migrate},
	{"dlq", "list, show or replay dead letters", dlqUsage, true, dlq},
	{"verify", "count a topic's records again and compare with ClickHouse", verifyUsage, true, verifyTopic},
	{"backfill", "load files of old events into ClickHouse, each exactly once", backfillUsage, true, backfillFiles},
	{"audit", "`audit results` finds, and repairs, result blocks that a crash of ClickHouse lost",
		auditUsage, true, auditResults},
	{"rules", "`rules check` and `rules test` say whether Prometheus rule files are right, as promtool does",
		rulesUsage, false, ruleFiles},
	{"demo", "produce the demo shop's events to a broker", demoUsage, true, demoShop},
	{"sql", "run SQL as a tenant, through the query service", sqlUsage, false, runSQL},
	{"keys", "`keys new` makes an API key and shows it once", keysUsage, false, keys},
	{"config", "`config check` and `config print` read the configuration as the services do", configUsage, true, configuration},
}

const devUsage = `usage: vigie dev [flags]

Starts a Kafka broker, ClickHouse, ingest, stream and query in one process, feeds them with this machine's figures and a
demo shop, and prints where everything is. Ctrl-C ends it; data and keys stay in data_dir (default .vigie).
`

const migrateUsage = `usage: vigie migrate [-dry-run | -print-access] [flags]

Creates what is missing of ClickHouse's tables and views. Safe to run again, and while services run.

  -dry-run         show what would run, and change nothing
  -print-access    print the statements that make Vigie's users and rights, for an administrator of ClickHouse to run
                   before the first migration, and again when the changelog says so
`

const keysUsage = `usage: vigie keys new [tenant]

Prints a new API key on standard output, and on standard error what the configuration needs to know of it.
`

const configUsage = `usage: vigie config check|print [flags]

check says whether the configuration is valid, with the files of keys, rules and alert routes that it names (exit code 2:
it is not). Files of passwords are not read. print shows what holds, secrets masked.
`

// Vigie runs the operator's tool and returns the exit code.
func Vigie(version string, args []string, s Streams) int {
	if len(args) == 0 {
		usage(s.Err)
		return exitUsage
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		if len(args) > 1 {
			args = []string{args[1], "-help"}
			break
		}
		usage(s.Out)
		return exitOK
	case "version", "-version", "--version":
		fmt.Fprintln(s.Out, "vigie", version)
		return exitOK
	}
	for _, c := range commands {
		if c.name == args[0] && slices.ContainsFunc(args[1:], config.AsksForHelp) {
			c.help(s.Out)
			return exitOK
		}
		if c.name == args[0] {
			ctx, stop := signalContext()
			defer stop()
			return c.run(ctx, version, args[1:], s)
		}
	}
	hint := "`vigie help` lists them"
	if near := config.Nearest(args[0], commandNames()); near != "" {
		hint = fmt.Sprintf("did you mean `vigie %s`? %s", near, hint)
	}
	fmt.Fprintf(s.Err, "vigie: no command %q; %s\n", args[0], hint)
	return exitUsage
}

func commandNames() []string {
	names := []string{"help", "version"}
	for _, c := range commands {
		names = append(names, c.name)
	}
	return names
}

// unknownVerb says what a command takes where it got another verb, or none.
func unknownVerb(s Streams, name, usage string, args []string, want string) int {
	if len(args) == 0 {
		fmt.Fprint(s.Err, usage)
		return exitUsage
	}
	return misused(s, name, fmt.Errorf("got %q, want %s", args[0], want))
}

func usage(w io.Writer) {
	fmt.Fprint(w, "vigie: the operator's tool of a streaming analytics engine on Kafka\n\nUsage: vigie <command> [flags]\n\n")
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, c := range commands {
		fmt.Fprintf(table, "  %s\t%s\n", c.name, c.about)
	}
	fmt.Fprintf(table, "  version\tprint the version\n")
	_ = table.Flush()
	fmt.Fprint(w, "\n`vigie help <command>` says more of each.\n")
}

func (c *command) help(w io.Writer) {
	fmt.Fprint(w, c.usage)
	if c.configured {
		fmt.Fprint(w, "\n"+config.FlagsHelp)
	}
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
	args, access := takeFlag(args, "print-access")
	loaded, code, done := load("vigie migrate", args, s)
	if done {
		return code
	}
	do := func() error { return app.Migrate(ctx, loaded.Config, dryRun, s.Out) }
	if access {
		do = func() error { return app.PrintAccess(&loaded.Config, s.Out) }
	}
	if err := do(); err != nil {
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
	if flag := slices.IndexFunc(args, func(arg string) bool { return strings.HasPrefix(arg, "-") }); flag >= 0 {
		fmt.Fprintf(s.Err, "vigie keys: no flag %s\n%s", args[flag], keysUsage)
		return exitUsage
	}
	if len(args) == 0 || args[0] != "new" {
		return unknownVerb(s, "vigie keys", keysUsage, args, "new")
	}
	if len(args) > 2 {
		return misused(s, "vigie keys", fmt.Errorf("got %q, want one tenant", args[1:]))
	}
	tenant := "<tenant>"
	if len(args) == 2 {
		tenant = args[1]
		if err := tenants.Validate(tenants.ID(tenant)); err != nil {
			fmt.Fprintf(s.Err, "vigie keys new: %v\n", err)
			return exitUsage
		}
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
		return unknownVerb(s, "vigie config", configUsage, args, "check or print")
	}
	_, code, done := load("vigie config", append([]string{"-" + args[0] + "-config"}, args[1:]...), s)
	if !done {
		panic("BUG: -check-config did not end the command")
	}
	return code
}

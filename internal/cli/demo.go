package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/vigie-io/vigie/internal/app"
)

const demoUsage = `usage: vigie demo [-rate 200] [-tenants demo,acme] [-seed n] [flags]

Produces the events of a shop of eight services to kafka.brokers, as an outside producer would. Ctrl-C ends it.

  -rate            events a second, of all tenants together
  -tenants         whose they are, separated by commas
  -seed            another number draws other days, errors and deploys
`

// demoShop runs `vigie demo [-rate n] [-tenants a,b] [-seed n]`: the flags are short names of dev.demo's keys.
func demoShop(ctx context.Context, version string, args []string, s Streams) int {
	loaded, code, done := load("vigie demo", lengthen(args, "dev.demo.", "rate", "tenants", "seed"), s)
	if done {
		return code
	}
	p := app.Process{Name: "demo", Version: version, Log: loaded.Config.Logger(s.Err)}
	fmt.Fprintf(s.Out, "producing %g events a second of tenants %s to %s; Ctrl-C ends it\n", loaded.Config.Dev.Demo.Rate,
		strings.Join(loaded.Config.Dev.Demo.Tenants, ", "), strings.Join(loaded.Config.Kafka.Brokers, ", "))
	if err := app.Demo(ctx, loaded.Config, p); err != nil {
		return fail(s, "vigie demo", err)
	}
	return exitOK
}

// lengthen turns -name into -prefixname for the given names.
func lengthen(args []string, prefix string, names ...string) []string {
	out := make([]string, 0, len(args))
	for _, arg := range args {
		bare := strings.TrimLeft(arg, "-")
		key, _, _ := strings.Cut(bare, "=")
		for _, name := range names {
			if bare != arg && key == name {
				arg = "-" + prefix + bare
			}
		}
		out = append(out, arg)
	}
	return out
}

package cli

import (
	"context"
	"fmt"

	"github.com/vigie-io/vigie/internal/query/ruler"
)

const rulesUsage = `usage: vigie rules check [-lint-fatal] <file>…
       vigie rules test <file>…

check reads Prometheus rule files; test runs unit tests in promtool's format against the rule files they name.
Both say file, line and column. Exit code 1: something is wrong; 3 with -lint-fatal: a rule stands in a file twice.
`

// ruleFiles answers to the commands of promtool with its exit codes.
func ruleFiles(_ context.Context, _ string, args []string, s Streams) int {
	args, fatal := takeFlag(args, "lint-fatal")
	if len(args) < 2 {
		fmt.Fprint(s.Err, rulesUsage)
		return exitUsage
	}
	switch args[0] {
	case "check":
		return ruler.Check(args[1:], fatal, s.Out)
	case "test":
		return ruler.Test(args[1:], s.Out)
	}
	fmt.Fprint(s.Err, rulesUsage)
	return exitUsage
}

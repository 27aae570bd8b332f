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
	switch {
	case len(args) == 0 || args[0] != "check" && args[0] != "test":
		return unknownVerb(s, "vigie rules", rulesUsage, args, "check or test")
	case len(args) == 1:
		return misused(s, "vigie rules", fmt.Errorf("%s which? give files", args[0]))
	case args[0] == "check":
		return ruler.Check(args[1:], fatal, s.Out)
	}
	return ruler.Test(args[1:], s.Out)
}

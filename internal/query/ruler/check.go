package ruler

import (
	"fmt"
	"io"

	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/rules"
)

// Check reads rule files, writes what it finds to out, and returns the exit code that promtool would: 1 when a file
// cannot be used, 3 when one only has rules twice and lintFatal is set, else 0.
func Check(files []string, lintFatal bool, out io.Writer) (code int) {
	for _, path := range files {
		fmt.Fprintln(out, "Checking", path)
		groups, problems := parseFile(path)
		if len(problems) > 0 {
			code = 1
			fmt.Fprintln(out, "  FAILED:")
			for _, p := range problems {
				fmt.Fprintln(out, p.Error())
			}
			continue
		}
		count := 0
		for _, g := range groups.Groups {
			count += len(g.Rules)
		}
		twice := duplicates(groups)
		for _, name := range twice {
			fmt.Fprintf(out, "  LINT: %s: %s is there twice with the same labels: their results would overwrite each other\n", path, name)
		}
		if len(twice) > 0 && lintFatal && code == 0 {
			code = 3
		}
		fmt.Fprintf(out, "  SUCCESS: %d rules found\n", count)
	}
	return code
}

// duplicates names the rules that stand in a file more than once, each once.
func duplicates(groups *rulefmt.RuleGroups) (names []string) {
	seen := map[string]int{}
	for _, g := range groups.Groups {
		for _, r := range g.Rules {
			name := r.Record
			if name == "" {
				name = r.Alert
			}
			key := name + rules.FromMaps(g.Labels, r.Labels).String()
			if seen[key]++; seen[key] == 2 {
				names = append(names, key)
			}
		}
	}
	return names
}

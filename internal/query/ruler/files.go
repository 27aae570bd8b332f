package ruler

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/vigie-io/vigie/internal/tenants"
)

// Files are the parsed rule files of a configuration. They are not changed.
type Files struct {
	cfg    Config
	groups []fileGroup
}

// fileGroup is one group of a file of a tenant.
type fileGroup struct {
	tenant tenants.ID
	path   string
	group  rulefmt.RuleGroup
}

// key names the group in the state: the same in every replica that has the files under the same path.
func (g *fileGroup) key() string { return string(g.tenant) + "\x00" + g.path + "\x00" + g.group.Name }

// tenantOf is the tenant of a key.
func tenantOf(key string) tenants.ID {
	tenant, _, _ := strings.Cut(key, "\x00")
	return tenants.ID(tenant)
}

// has tells whether a group is in the files.
func (f *Files) has(key string) bool {
	return slices.ContainsFunc(f.groups, func(g fileGroup) bool { return g.key() == key })
}

// Load reads the rule files of a valid configuration. Its error names file, line and column of everything that is
// wrong.
func Load(cfg Config) (*Files, error) {
	f := &Files{cfg: cfg}
	var errs []error
	for _, tenant := range slices.Sorted(maps.Keys(cfg.Tenants)) {
		paths, err := expand(cfg.Tenants[tenant].Files, "")
		if err != nil {
			errs = append(errs, fmt.Errorf("tenants.%s: %w", tenant, err))
			continue
		}
		for _, path := range paths {
			groups, problems := parseFile(path)
			for _, p := range problems {
				errs = append(errs, p)
			}
			if len(problems) == 0 {
				for _, g := range groups.Groups {
					f.groups = append(f.groups, fileGroup{tenant, path, g})
				}
			}
		}
	}
	return f, errors.Join(errs...)
}

// Empty says that there is no rule for any tenant.
func (f *Files) Empty() bool { return len(f.groups) == 0 }

// one is a loader of upstream's that knows one group, which is parsed.
type one struct{ group rulefmt.RuleGroup }

func (l one) Load(string, bool, model.ValidationScheme) (*rulefmt.RuleGroups, []error) {
	return &rulefmt.RuleGroups{Groups: []rulefmt.RuleGroup{l.group}}, nil
}

func (l one) Parse(query string) (parser.Expr, error) { return newParser().ParseExpr(query) }

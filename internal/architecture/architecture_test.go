package architecture

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/vigie-io/vigie/"

// layers, from the bottom up: a package may import packages of lower layers. Inside a layer it may import what
// "within" allows.
var layers = []struct {
	name     string
	packages []string // path prefixes inside the module
	within   bool     // packages of this layer may import each other
}{
	{"pkg", []string{"pkg", "migrations", "proto"}, true},
	{"ground", []string{
		"internal/units", "internal/pause", "internal/tenants", "internal/telemetry", "internal/alertapi", "internal/architecture",
	}, true},
	{"engine", []string{"internal/auth", "internal/backfill", "internal/coarse", "internal/demo", "internal/ingest", "internal/live", "internal/notify", "internal/pipeline", "internal/query", "internal/sink"}, false},
	{"adapter", []string{"internal/kafka", "internal/clickhouse"}, false},
	{"config", []string{"internal/config"}, false},
	{"top", []string{"internal/devstack", "internal/app", "internal/cli", "internal/simulation", "internal/testkit", "internal/topology"}, true},
	{"cmd", []string{"cmd", "bench"}, false},
}

// doors are the only packages that may import a heavy dependency.
var doors = map[string][]string{
	"github.com/twmb/franz-go":            {"internal/kafka", "internal/devstack", "internal/simulation", "internal/testkit", "bench"},
	"github.com/ClickHouse/":              {"internal/clickhouse"},
	"github.com/prometheus/prometheus":    {"internal/query/promql", "internal/query/ruler", "bench/query"},
	"github.com/prometheus/alertmanager":  {"internal/query/alertmanager"},
	"go.opentelemetry.io/collector/pdata": {"pkg/events", "internal/ingest"},
	"go.opentelemetry.io/otel":            {"internal/telemetry"},
	"go.opentelemetry.io/contrib":         {"internal/telemetry"},
	"google.golang.org/protobuf":          {"internal/ingest", "proto"},
	"github.com/ebitengine/purego":        {"internal/devstack"},
	"github.com/parquet-go/":              {"internal/backfill"},
	"github.com/minio/":                   {"internal/backfill"},
	"github.com/shirou/gopsutil":          {"internal/live"},
	"github.com/testcontainers/":          {"internal/testkit"},
	"github.com/peterh/liner":             {"internal/cli"},
	"github.com/prometheus/client_golang": {"internal"},
	"log/slog":                            {"internal", "cmd"},
}

// impure packages stay out of pkg: no sockets, files, logs or locks there.
var impure = []string{"net", "net/http", "os", "os/exec", "log", "log/slog", "sync", "sync/atomic", "syscall", "math/rand", "context"}

// parts of internal/pipeline, each with those it knows. A task puts them together: none knows package pipeline itself.
var parts = map[string][]string{
	"aggregate": nil,
	"state":     nil,
	"counters":  {"state"},
	"windowed":  {"aggregate", "state"},
	"rollup":    {"aggregate", "windowed"},
	"alerting":  {"aggregate", "state", "windowed", "rollup"},
}

func TestImportsPointOneWay(t *testing.T) {
	seen := 0
	forEachImport(t, func(from, file, imported string) {
		seen++
		if target, ours := strings.CutPrefix(imported, module); ours {
			if why := forbidden(from, target); why != "" {
				t.Errorf("%s imports %s: %s", file, target, why)
			}
			return
		}
		for prefix, allowed := range doors {
			if strings.HasPrefix(imported, prefix) && !slices.ContainsFunc(allowed, func(d string) bool { return inside(from, d) }) {
				t.Errorf("%s imports %s: its door is %s", file, imported, strings.Join(allowed, ", "))
			}
		}
		if inside(from, "pkg") && slices.Contains(impure, imported) {
			t.Errorf("%s imports %s: pkg is pure", file, imported)
		}
	})
	if seen < 50 {
		t.Fatalf("got %d imports, want the whole tree", seen)
	}
}

func TestEveryPackageHasALayer(t *testing.T) {
	forEachImport(t, func(from, file, _ string) {
		if layerOf(from) < 0 {
			t.Errorf("%s: package %s stands in no layer; add it to the table and to ARCHITECTURE.md", file, from)
		}
	})
}

// forbidden says why one of our packages may not import another, "" when it may.
func forbidden(from, to string) string {
	source, target := layerOf(from), layerOf(to)
	switch {
	case source < 0 || target < 0:
		return "a package without a layer"
	case target > source:
		return "imports point from " + layers[target].name + " to " + layers[source].name + ", never back"
	case target < source || layers[source].within:
		return ""
	case inside(from, "internal/pipeline") && inside(to, "internal/pipeline"):
		return unknownPart(from, to)
	case component(from) == component(to):
		return ""
	case inside(from, "internal/backfill") && inside(to, "internal/pipeline"):
		return "" // the stream's own step code
	case inside(from, "internal/coarse") && to == "internal/pipeline":
		return "" // the rows that the stream writes
	case inside(from, "internal/query/api") && inside(to, "internal/auth"):
		return ""
	}
	return "packages of the layer " + layers[source].name + " do not know each other"
}

// unknownPart says why a part of internal/pipeline may not import another.
func unknownPart(from, to string) string {
	from, to = strings.TrimPrefix(from, "internal/pipeline/"), strings.TrimPrefix(to, "internal/pipeline/")
	if known, part := parts[from]; part && !slices.Contains(known, to) {
		return "of internal/pipeline it knows " + strings.Join(known, ", ") + " only"
	}
	return ""
}

func TestForbidden(t *testing.T) {
	f := func(from, to string, want bool) {
		t.Helper()
		if got := forbidden(from, to) == ""; got != want {
			t.Errorf("%s → %s: got allowed %v, want %v", from, to, got, want)
		}
	}
	f("internal/kafka", "internal/pipeline", true)
	f("internal/pipeline", "internal/kafka", false)
	f("internal/kafka", "internal/clickhouse", false)
	f("internal/pipeline", "internal/sink", false)
	f("internal/pipeline", "internal/pipeline/alerting", true)
	f("internal/pipeline/alerting", "internal/pipeline/rollup", true)
	f("internal/pipeline/rollup", "internal/pipeline/alerting", false)
	f("internal/pipeline/state", "internal/pipeline", false)
	f("internal/query/api", "internal/auth", true)
	f("internal/backfill", "internal/pipeline", true)
	f("internal/backfill", "internal/sink", false)
	f("internal/coarse", "internal/pipeline", true)
	f("internal/coarse", "internal/pipeline/alerting", false)
	f("internal/query/api", "internal/query/promql", true)
	f("pkg/series", "internal/tenants", false)
	f("cmd/vigie", "internal/cli", true)
	f("internal/app", "internal/cli", true)
	f("internal/config", "internal/kafka", true)
}

func layerOf(path string) int {
	return slices.IndexFunc(layers, func(l struct {
		name     string
		packages []string
		within   bool
	}) bool {
		return slices.ContainsFunc(l.packages, func(p string) bool { return inside(path, p) })
	})
}

func inside(path, folder string) bool {
	return path == folder || strings.HasPrefix(path, folder+"/")
}

// component is "internal/query" for everything below it.
func component(path string) string {
	parts := strings.Split(path, "/")
	return strings.Join(parts[:min(2, len(parts))], "/")
}

// forEachImport visits every import of every file that is not a test.
func forEachImport(t *testing.T, visit func(from, file, imported string)) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() && path != root && (strings.HasPrefix(name, ".") || name == "node_modules" || name == "testdata" || name == "bin") {
			return filepath.SkipDir
		}
		if entry.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, source, parser.ImportsOnly)
		if err != nil {
			return err
		}
		from := filepath.ToSlash(filepath.Dir(relative))
		for _, spec := range file.Imports {
			visit(from, filepath.ToSlash(relative), strings.Trim(spec.Path.Value, `"`))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

package grafana_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql/parser"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/vigie-io/vigie/internal/testkit/grafana"
)

const deploy = "../../../deploy/grafana/"

func schema(t *testing.T, name string) *jsonschema.Schema {
	t.Helper()
	out, err := jsonschema.NewCompiler().Compile(deploy + "schema/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func readJSON(t *testing.T, file string) any {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	value, err := jsonschema.UnmarshalJSON(f)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return value
}

// readYAML gives YAML as JSON would be read.
func readYAML(t *testing.T, file string) any {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var value any
	if err := yaml.Unmarshal(text, &value); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	encoded, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	out, err := jsonschema.UnmarshalJSON(strings.NewReader(string(encoded)))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestFilesMeetTheirSchemas(t *testing.T) {
	boards, provisioning := schema(t, "dashboard.schema.json"), schema(t, "provisioning.schema.json")
	n := 0
	for _, file := range glob(t, "dashboards/*.json") {
		if err := boards.Validate(readJSON(t, file)); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		n++
	}
	for _, file := range glob(t, "provisioning/*/*.yaml") {
		if err := provisioning.Validate(readYAML(t, file)); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		n++
	}
	if n < 4 {
		t.Errorf("got %d files, want two dashboards and two of provisioning", n)
	}
}

// A schema that takes everything would be no schema.
func TestSchemasRefuse(t *testing.T) {
	boards := schema(t, "dashboard.schema.json")
	for _, change := range []func(map[string]any){
		func(b map[string]any) { delete(b, "uid") },
		func(b map[string]any) { b["panels"] = []any{} },
		func(b map[string]any) { b["__inputs"] = []any{} },
		func(b map[string]any) { first(b)["datasource"] = map[string]any{"type": "prometheus", "uid": "abc"} },
		func(b map[string]any) { delete(first(b), "description") },
		func(b map[string]any) { first(b)["targets"].([]any)[0].(map[string]any)["expr"] = "" },
	} {
		board := readJSON(t, glob(t, "dashboards/*.json")[0]).(map[string]any)
		change(board)
		if boards.Validate(board) == nil {
			t.Errorf("got %v taken", board)
		}
	}
}

func first(board map[string]any) map[string]any { return board["panels"].([]any)[0].(map[string]any) }

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(deploy + pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: got no files (%v)", pattern, err)
	}
	return files
}

func boards(t *testing.T) []grafana.Board {
	t.Helper()
	out, err := grafana.Boards(deploy + "dashboards")
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestBoardsAreInOrder(t *testing.T) {
	var uids []string
	for _, board := range boards(t) {
		if slices.Contains(uids, board.UID) {
			t.Errorf("%s: another dashboard has the uid %s", board.File, board.UID)
		}
		uids = append(uids, board.UID)
		ids, taken := map[int]bool{}, map[[2]int]string{}
		for _, panel := range board.Panels {
			if ids[panel.ID] {
				t.Errorf("%s: panel %s: another has the id %d", board.File, panel.Title, panel.ID)
			}
			ids[panel.ID] = true
			at := panel.GridPos
			if at.X+at.W > 24 {
				t.Errorf("%s: panel %s reaches beyond the right edge", board.File, panel.Title)
			}
			for x := at.X; x < at.X+at.W; x++ {
				for y := at.Y; y < at.Y+at.H; y++ {
					if other := taken[[2]int{x, y}]; other != "" {
						t.Fatalf("%s: panel %s lies on %s", board.File, panel.Title, other)
					}
					taken[[2]int{x, y}] = panel.Title
				}
			}
			for _, target := range panel.Targets {
				if target.Datasource != panel.Datasource {
					t.Errorf("%s: panel %s: query %s asks another datasource than the panel",
						board.File, panel.Title, target.RefID)
				}
			}
		}
	}
}

// Vigie's own metrics in queries are ones that its programs have; every query can be read.
func TestQueriesCanBeRead(t *testing.T) {
	reference, err := os.ReadFile("../../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	own := regexp.MustCompile(`vigie_\w+`)
	promql := parser.NewParser(parser.Options{})
	for _, board := range boards(t) {
		v := board.View(view())
		for _, panel := range board.Panels {
			for _, target := range panel.Targets {
				if target.Datasource.Type == grafana.ClickHouse {
					if _, err := v.SQL(target.RawSQL); err != nil {
						t.Errorf("%s: panel %s: %v", board.File, panel.Title, err)
					}
					continue
				}
				expr := v.PromQL(target.Expr, 10*time.Second)
				if _, err := promql.ParseExpr(expr); err != nil {
					t.Errorf("%s: panel %s: %s: %v", board.File, panel.Title, expr, err)
				}
				for _, name := range own.FindAllString(expr, -1) {
					if !strings.Contains(string(reference), "`"+strings.TrimSuffix(name, "_bucket")+"`") {
						t.Errorf("%s: panel %s: no program has the metric %s", board.File, panel.Title, name)
					}
				}
			}
		}
	}
}

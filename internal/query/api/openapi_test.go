package api_test

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/vigie-io/vigie/internal/query/promql"
)

// document is the OpenAPI document as the service answers it.
func document(t *testing.T, base string) map[string]any {
	t.Helper()
	code, body, header := get(t, base+"/api/v1/openapi.yaml", "k-acme")
	var doc map[string]any
	if err := yaml.Unmarshal([]byte(body), &doc); err != nil || code != http.StatusOK || !strings.HasPrefix(header.Get("Content-Type"), "application/yaml") {
		t.Fatalf("got %d %s (%v), want a YAML document", code, header.Get("Content-Type"), err)
	}
	return doc
}

// Every documented operation is served, and every path that is served is documented.
func TestDocumentAndRoutes(t *testing.T) {
	s, _ := newAPI(t)
	doc := document(t, s.URL)
	paths := doc["paths"].(map[string]any)
	for path, item := range paths {
		for method := range item.(map[string]any) {
			if method == "servers" {
				continue
			}
			target := "/api/v1" + path
			if item.(map[string]any)["servers"] != nil {
				target = path
			}
			r, err := http.NewRequest(strings.ToUpper(method), s.URL+strings.ReplaceAll(target, "{name}", "service"), nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer k-acme")
			answer, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			_ = answer.Body.Close()
			if answer.StatusCode == http.StatusNotFound || answer.StatusCode == http.StatusMethodNotAllowed {
				t.Errorf("%s %s is documented and answers %d", method, target, answer.StatusCode)
			}
		}
	}
	for path, methods := range promql.Routes() {
		item, ok := paths[path].(map[string]any)
		for method := range strings.FieldsSeq(strings.ToLower(methods)) {
			if !ok || item[method] == nil {
				t.Errorf("%s %s is served and not documented", method, path)
			}
		}
	}
	for _, path := range []string{"/federate", "/sql", "/sql/ping", "/ping", "/openapi.yaml"} {
		if paths[path] == nil {
			t.Errorf("%s is served and not documented", path)
		}
	}
	if got := slices.Sorted(maps.Keys(doc["components"].(map[string]any))); !slices.Equal(got, []string{"parameters", "responses", "schemas", "securitySchemes"}) {
		t.Errorf("components: got %v", got)
	}
}

// All references lead somewhere, and all schemas are ones.
func TestDocumentIsWhole(t *testing.T) {
	s, _ := newAPI(t)
	doc := document(t, s.URL)
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("mem:///document.json", doc); err != nil {
		t.Fatal(err)
	}
	seen := 0
	var walk func(at any, pointer string)
	walk = func(at any, pointer string) {
		switch v := at.(type) {
		case map[string]any:
			if target, ok := v["$ref"].(string); ok {
				seen++
				if !leads(doc, target) {
					t.Errorf("%s: %s leads nowhere", pointer, target)
				}
			}
			for key, value := range v {
				next := pointer + "/" + strings.NewReplacer("~", "~0", "/", "~1", "%", "%25", " ", "%20", ";", "%3B").Replace(key)
				if key == "schema" {
					seen++
					if _, err := compiler.Compile("mem:///document.json#" + next); err != nil {
						t.Errorf("%s: %v", next, err)
					}
				}
				walk(value, next)
			}
		case []any:
			for i, value := range v {
				walk(value, fmt.Sprint(pointer, "/", i))
			}
		}
	}
	walk(doc["paths"], "/paths")
	walk(doc["components"], "/components")
	if seen < 100 {
		t.Errorf("got %d references and schemas, want the whole document", seen)
	}
}

func leads(doc map[string]any, target string) bool {
	at := any(doc)
	for name := range strings.SplitSeq(strings.TrimPrefix(target, "#/"), "/") {
		inside, ok := at.(map[string]any)
		if !ok {
			return false
		}
		at = inside[strings.NewReplacer("~1", "/", "~0", "~").Replace(name)]
	}
	return at != nil
}

package api

import (
	_ "embed"
	"fmt"
	"net/http"
	"sync"

	"go.yaml.in/yaml/v3"

	"github.com/vigie-io/vigie/internal/query/promql"
)

//go:embed openapi.yaml
var ours []byte

// document makes the OpenAPI document when it is first asked for: that takes longer than all else of a start.
func document(version string) func() []byte {
	return sync.OnceValue(func() []byte {
		text, err := describe(version)
		if err != nil {
			panic("BUG: the OpenAPI document: " + err.Error()) // made of what is compiled in
		}
		return text
	})
}

// describe is the OpenAPI document of the whole service: upstream's, with what is Vigie's laid on it.
func describe(version string) ([]byte, error) {
	doc, err := promql.Describe(version)
	if err != nil {
		return nil, err
	}
	var own map[string]any
	if err := yaml.Unmarshal(ours, &own); err != nil {
		return nil, fmt.Errorf("read openapi.yaml: %w", err)
	}
	delete(doc["paths"].(map[string]any)["/read"].(map[string]any)["post"].(map[string]any)["responses"].(map[string]any), "204")
	return yaml.Marshal(laid(doc, own))
}

// laid puts over onto under: maps are merged, lists appended, all else replaced.
func laid(under, over any) any {
	switch top := over.(type) {
	case map[string]any:
		below, ok := under.(map[string]any)
		if !ok {
			return over
		}
		for key, value := range top {
			below[key] = laid(below[key], value)
		}
		return below
	case []any:
		if below, ok := under.([]any); ok {
			return append(below, top...)
		}
	}
	return over
}

// serveDocument answers with the OpenAPI document, as upstream does.
func serveDocument(document func() []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/yaml; charset=utf-8")
		_, _ = w.Write(document()) // the client has gone
	})
}

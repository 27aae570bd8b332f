package promql

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"

	apiv1 "github.com/prometheus/prometheus/web/api/v1"
	"go.yaml.in/yaml/v3"
)

// Describe returns upstream's OpenAPI document of what Handler serves, as decoded YAML: paths below the prefix, schemas
// in components. Paths and methods that are not served here are left out of it. The caller owns the document.
func Describe(version string) (map[string]any, error) {
	page := &page{header: http.Header{}}
	apiv1.NewOpenAPIBuilder(apiv1.OpenAPIOptions{Version: version}, slog.New(slog.DiscardHandler)).ServeOpenAPI(page,
		&http.Request{URL: &url.URL{}})
	var doc map[string]any
	if err := yaml.Unmarshal(page.body.Bytes(), &doc); err != nil {
		return nil, fmt.Errorf("read upstream's OpenAPI document: %w", err)
	}
	all, _ := doc["paths"].(map[string]any)
	served := make(map[string]any, len(all))
	tags := map[string]bool{}
	for path, methods := range Routes() {
		operations, ok := all[path].(map[string]any)
		if !ok {
			continue // ours, not upstream's
		}
		for method, operation := range operations {
			if !slices.Contains(strings.Fields(methods), strings.ToUpper(method)) {
				delete(operations, method)
				continue
			}
			for _, tag := range operation.(map[string]any)["tags"].([]any) {
				tags[tag.(string)] = true
			}
		}
		served[path] = operations
	}
	doc["paths"] = served
	if list, ok := doc["tags"].([]any); ok {
		doc["tags"] = slices.DeleteFunc(list, func(tag any) bool { return !tags[tag.(map[string]any)["name"].(string)] })
	}
	return doc, nil
}

// page keeps an answer in memory.
type page struct {
	header http.Header
	body   bytes.Buffer
}

func (p *page) Header() http.Header         { return p.header }
func (p *page) WriteHeader(int)             {}
func (p *page) Write(b []byte) (int, error) { return p.body.Write(b) }

// Routes are the paths that Handler serves, with their methods, as an OpenAPI document writes them.
func Routes() map[string]string {
	out := make(map[string]string, len(routes))
	for path, methods := range routes {
		out[strings.ReplaceAll(path, ":name", "{name}")] = methods
	}
	return out
}

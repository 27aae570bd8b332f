package topology

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"mime"
	"net/http"
	"strconv"
	"strings"

	_ "embed"
)

var (
	//go:embed page.html
	pageSource string
	//go:embed page.css
	style string

	page = template.Must(template.New("page").Funcs(formats).Parse(pageSource))
	// The page needs nothing but its own style: whatever a tenant's name smuggled in would not run.
	policy = "default-src 'none'; style-src 'sha256-" + digest(style) +
		"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// Handler answers GET: a page for clients that ask for HTML as browsers do, JSON for all others. format=html or
// format=json in the query decides otherwise. The page loads itself again every refresh seconds, 5 without that
// parameter and never with 0. now gets the request's context.
func Handler(now func(context.Context) *Topology) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Vary", "Accept")
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		format := r.FormValue("format")
		if format == "" {
			format = formatFor(r.Header.Get("Accept"))
		}
		switch format {
		case "json":
			writeJSON(w, now(r.Context()))
		case "html":
			writePage(w, r, now(r.Context()))
		default:
			http.Error(w, fmt.Sprintf("format %q: want html or json", format), http.StatusBadRequest)
		}
	})
}

func writeJSON(w http.ResponseWriter, t *Topology) {
	w.Header().Set("Content-Type", "application/json")
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(t)
}

const (
	defaultRefresh = 5
	maxRefresh     = 3600
)

func writePage(w http.ResponseWriter, r *http.Request, t *Topology) {
	refresh := defaultRefresh
	if text := r.FormValue("refresh"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || n > maxRefresh {
			http.Error(w, fmt.Sprintf("refresh %q: want 0 to %d seconds", text, maxRefresh), http.StatusBadRequest)
			return
		}
		refresh = n
	}
	var out bytes.Buffer
	if err := page.Execute(&out, newView(t, refresh)); err != nil {
		panic("BUG: the topology page does not render: " + err.Error())
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", policy)
	w.Header().Set("Referrer-Policy", "no-referrer")
	_, _ = out.WriteTo(w)
}

// formatFor is html when an Accept header names text/html at least as dearly as JSON. `*/*`, as of curl, is not enough.
func formatFor(accept string) string {
	html, json := -1.0, 0.0
	for item := range strings.SplitSeq(accept, ",") {
		kind, params, err := mime.ParseMediaType(item)
		if err != nil {
			continue
		}
		weight := 1.0
		if q, ok := params["q"]; ok {
			if weight, err = strconv.ParseFloat(q, 64); err != nil {
				continue
			}
		}
		switch kind {
		case "text/html", "application/xhtml+xml":
			html = max(html, weight)
		case "application/json":
			json = weight
		}
	}
	if html > 0 && html >= json {
		return "html"
	}
	return "json"
}

package promql

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// HeaderPushdown says, with the answer to a query, what the database did for the engine: "none", or lines such as
// "sum by (service): 10000 series as 8".
const HeaderPushdown = "X-Vigie-Pushdown"

// traced serves a query and says what was pushed down; with explain=1 it answers with how the query was read, in
// place of its result; with pushdown=0 it reads series one by one.
func traced(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, trace := WithTrace(r.Context())
		trace.plain = r.FormValue("pushdown") == "0"
		r = r.WithContext(ctx)
		if explain, _ := strconv.ParseBool(r.FormValue("explain")); !explain {
			next.ServeHTTP(&tracedWriter{ResponseWriter: w, trace: trace}, r)
			return
		}
		began, result := time.Now(), &discarded{header: http.Header{}, code: http.StatusOK}
		next.ServeHTTP(result, r)
		if result.code != http.StatusOK {
			for name, values := range result.header {
				w.Header()[name] = values
			}
			w.WriteHeader(result.code)
			_, _ = w.Write(result.start)
			return
		}
		w.Header().Set(HeaderPushdown, trace.pushdown())
		w.Header().Set("Content-Type", "application/json")
		// Statements are read by people: their comparisons stay as they are.
		encoder := json.NewEncoder(w)
		encoder.SetEscapeHTML(false)
		_ = encoder.Encode(map[string]any{"status": "success", "data": trace.explained(time.Since(began))})
	})
}

// tracedWriter adds the header once the query has been evaluated, which is when its answer begins.
type tracedWriter struct {
	http.ResponseWriter
	trace   *Trace
	written bool
}

func (w *tracedWriter) WriteHeader(code int) {
	if !w.written {
		w.written = true
		w.Header().Set(HeaderPushdown, w.trace.pushdown())
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *tracedWriter) Write(p []byte) (int, error) {
	if !w.written {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController find what is below.
func (w *tracedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// discarded keeps of an answer its code, its headers and, of an error, its body.
type discarded struct {
	header http.Header
	code   int
	start  []byte
}

func (d *discarded) Header() http.Header { return d.header }

func (d *discarded) WriteHeader(code int) { d.code = code }

func (d *discarded) Write(p []byte) (int, error) {
	if d.code != http.StatusOK {
		d.start = append(d.start, p...)
	}
	return len(p), nil
}

package promql

import (
	"bytes"
	"context"
	"net/http"
	"net/url"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vigie-io/vigie/internal/tenants"
)

// sharing answers identical queries of a tenant that arrive while one of them runs with what that one finds. Nothing is
// kept: the next query runs anew. A query ends when nobody waits for it any more. Safe for concurrent use.
type sharing struct {
	next    http.Handler
	failed  func(tenants.ID, any) // a panic, so that its waiters are answered
	shared  prometheus.Counter
	mu      sync.Mutex
	flights map[string]*flight
}

// flight is one query and those who wait for it.
type flight struct {
	waiting int
	cancel  context.CancelFunc
	done    chan struct{}
	answer  recorded // after done
}

func newSharing(next http.Handler, shared prometheus.Counter, failed func(tenants.ID, any)) *sharing {
	return &sharing{next: next, shared: shared, failed: failed, flights: make(map[string]*flight)}
}

func (s *sharing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	tenant, ok := tenants.FromContext(r.Context())
	if err := r.ParseForm(); err != nil || !ok || r.Form.Get("query") == "" {
		s.next.ServeHTTP(w, r)
		return
	}
	key := flightKey(tenant, r)
	f := s.join(key, tenant, r)
	select {
	case <-f.done:
		f.answer.write(w)
	case <-r.Context().Done():
		s.leave(key, f)
	}
}

// flightKey is all of a request that its answer depends on.
func flightKey(tenant tenants.ID, r *http.Request) string {
	return url.Values{
		"tenant": {string(tenant)}, "path": {r.URL.Path}, "form": {r.Form.Encode()},
		"accept": r.Header.Values("Accept"), "encoding": r.Header.Values("Accept-Encoding"), "origin": r.Header.Values("Origin"),
	}.Encode()
}

func (s *sharing) join(key string, tenant tenants.ID, r *http.Request) *flight {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.flights[key]; f != nil {
		f.waiting++
		s.shared.Inc()
		return f
	}
	// The first to ask may be the first to go: the query is bound to all who wait for it.
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	f := &flight{waiting: 1, cancel: cancel, done: make(chan struct{})}
	s.flights[key] = f
	go s.fly(key, f, tenant, r.WithContext(ctx))
	return f
}

func (s *sharing) fly(key string, f *flight, tenant tenants.ID, r *http.Request) {
	defer func() {
		if cause := recover(); cause != nil {
			s.failed(tenant, cause)
			f.answer = recorded{}
			writeError(&f.answer, http.StatusInternalServerError, "internal",
				"the query failed; the cause is in the server's log")
		}
		s.mu.Lock()
		if s.flights[key] == f {
			delete(s.flights, key)
		}
		s.mu.Unlock()
		f.cancel()
		close(f.done)
	}()
	s.next.ServeHTTP(&f.answer, r)
}

func (s *sharing) leave(key string, f *flight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.waiting--; f.waiting == 0 {
		// Who asks now begins anew instead of getting what was cut short.
		if s.flights[key] == f {
			delete(s.flights, key)
		}
		f.cancel()
	}
}

// recorded is an answer in memory. Its writing is done by one goroutine, and is over before write.
type recorded struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func (a *recorded) Header() http.Header {
	if a.header == nil {
		a.header = make(http.Header)
	}
	return a.header
}

func (a *recorded) WriteHeader(code int) {
	if a.code == 0 {
		a.code = code
	}
}

func (a *recorded) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(p)
}

func (a *recorded) write(w http.ResponseWriter) {
	for name, values := range a.header {
		w.Header()[name] = append([]string(nil), values...)
	}
	if a.code != 0 {
		w.WriteHeader(a.code)
	}
	_, _ = w.Write(a.body.Bytes()) // the client has gone
}

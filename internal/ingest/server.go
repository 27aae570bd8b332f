package ingest

import (
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/vigie-io/vigie/internal/telemetry"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
)

// Options are what a Server works with. Publisher, Authenticate and Limits are required.
type Options struct {
	Config    Config
	Publisher Publisher
	// Authenticate names the tenant that a request may write for, or returns an error that wraps
	// tenants.ErrUnauthenticated or tenants.ErrForbidden.
	Authenticate func(*http.Request) (tenants.ID, error)
	Limits       func(tenants.ID) tenants.Limits // asked once a request: it may change
	// Topic names the topic of a signal; nil means vigie.<signal>.v1.
	Topic      func(events.Signal) string
	Registerer prometheus.Registerer // nil: metrics are not registered
	Log        *slog.Logger          // nil: slog.Default
	Now        func() time.Time      // nil: time.Now
}

// Server answers the ingest routes. It is an http.Handler, safe for concurrent use, and starts no goroutine.
// Whoever serves it sets ReadHeaderTimeout; bodies have Config.ReadTimeout.
type Server struct {
	config       Config
	publisher    Publisher
	authenticate func(*http.Request) (tenants.ID, error)
	limitsOf     func(tenants.ID) tenants.Limits
	topic        func(events.Signal) string
	log          *slog.Logger
	now          func() time.Time

	mux      *http.ServeMux
	metrics  *metrics
	memory   memory
	rates    rates
	decoders decoders
	metadata metadata
	troubles rate.Sometimes // of the log
}

// New returns a server; it does not listen.
func New(o Options) (*Server, error) {
	if err := o.Config.Validate(); err != nil {
		return nil, err
	}
	if o.Publisher == nil || o.Authenticate == nil || o.Limits == nil {
		return nil, fmt.Errorf("ingest options: want Publisher, Authenticate and Limits")
	}
	s := &Server{
		config: o.Config, publisher: o.Publisher, authenticate: o.Authenticate, limitsOf: o.Limits,
		topic: o.Topic, log: o.Log, now: o.Now,
		mux:      http.NewServeMux(),
		memory:   memory{limit: int64(o.Config.MaxInFlight)},
		rates:    rates{tenants: map[tenants.ID]*tenantRates{}},
		metadata: metadata{limit: o.Config.MaxMetadata, entries: map[metadataKey]*metadataEntry{}},
		troubles: rate.Sometimes{First: 1, Interval: 10 * time.Second},
	}
	if s.topic == nil {
		s.topic = func(signal events.Signal) string { return "vigie." + string(signal) + ".v1" }
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	if s.now == nil {
		s.now = time.Now
	}
	s.metrics = newMetrics(o.Registerer, &s.memory, o.Config.MaxTenantLabels)
	s.routes()
	return s, nil
}

func (s *Server) routes() {
	s.mux.HandleFunc("GET /{$}", discover)
	s.mux.HandleFunc("GET /v1/events", discover)
	for _, signal := range signals {
		s.handle("POST /v1/events/"+string(signal), eventsProtocol(signal))
	}
	s.mux.HandleFunc("POST /v1/events/{signal}", s.unknownSignal)
	s.mux.HandleFunc("/v1/events/{signal}", notAllowed("POST", "send events here with POST"))
	s.mux.HandleFunc("/v1/events",
		notAllowed("GET, HEAD",
			"send events to /v1/events/metrics, /v1/events/spans or /v1/events/logs; GET tells here what this server takes"))
	s.handle("POST /v1/metrics", otlpProtocol(events.Metrics))
	s.handle("POST /v1/traces", otlpProtocol(events.Spans))
	s.handle("POST /v1/logs", otlpProtocol(events.Logs))
	s.handle("POST /api/v1/write", remoteWriteProtocol())
	for _, path := range []string{"/v1/metrics", "/v1/traces", "/v1/logs", "/api/v1/write"} {
		s.mux.HandleFunc(path, notAllowed("POST", "send here with POST; GET / tells what"))
	}
	s.mux.HandleFunc("/", nothing)
}

var signals = []events.Signal{events.Metrics, events.Spans, events.Logs}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// protocol is one way in. A request goes through read and then handle; the first error of either means that
// nothing of it was accepted, and refuse answers it in the protocol's own form.
type protocol struct {
	signal events.Signal
	read   func(*call) error // checks type and encoding, fills call.body
	handle func(*call) error
	refuse func(*call, *failure)
}

func (s *Server) handle(pattern string, p protocol) {
	_, route, _ := strings.Cut(pattern, " ")
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		c := &call{Server: s, signal: p.signal, w: &telemetry.StatusWriter{ResponseWriter: w}, r: r,
			now: s.now(), body: getBuffer()}
		c.lease.memory = &s.memory
		defer func() {
			c.lease.release()
			putBuffer(c.body)
			s.metrics.request(route, c.w.Status(), s.now().Sub(c.now))
		}()
		if err := c.run(p); err != nil {
			f := s.asFailure(err)
			s.note(c, f)
			f.headers(c.w.Header())
			p.refuse(c, f)
		}
	})
}

// note counts a request of which nothing was accepted, and logs it when the server is at fault.
func (s *Server) note(c *call, f *failure) {
	tenant := ""
	if c.tenant != "" {
		tenant = s.metrics.tenant(c.tenant)
	}
	s.metrics.refused.WithLabelValues(tenant, f.reason).Inc()
	if f.status >= 500 && f.cause != nil {
		s.troubles.Do(func() { s.log.Error("refuse events", "tenant", c.tenant, "status", f.status, "err", f.cause) })
	}
}

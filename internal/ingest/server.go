package ingest

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
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

// call is one request on its way.
type call struct {
	*Server
	signal events.Signal
	w      *telemetry.StatusWriter
	r      *http.Request
	tenant tenants.ID
	limits tenants.Limits
	rates  *tenantRates
	now    time.Time
	body   *[]byte // decompressed; reused after the request
	lease  lease
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

func (c *call) run(p protocol) (err error) {
	if c.tenant, err = c.authenticate(c.r); err != nil {
		return err
	}
	c.limits = c.limitsOf(c.tenant)
	c.rates = c.Server.rates.of(c.tenant, &c.limits, c.now)
	// The connection has the real clock; not every writer has a connection.
	_ = http.NewResponseController(c.w).SetReadDeadline(time.Now().Add(c.config.ReadTimeout))
	if err := p.read(c); err != nil {
		return err
	}
	c.metrics.bytes.WithLabelValues(c.metrics.tenant(c.tenant)).Add(float64(len(*c.body)))
	if wait := c.rates.bytes.take(c.now, len(*c.body)); wait > 0 {
		return tooFast("bytes_per_second", c.limits.BytesPerSecond.String(), wait)
	}
	return p.handle(c)
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

func tooFast(limit, value string, wait time.Duration) error {
	f := fail(http.StatusTooManyRequests, "rate_"+limit, "over %s (%s): send again after Retry-After", limit, value)
	f.retryAfter = wait
	return f
}

// reader reads the body within this call's limits.
func (c *call) reader() *bodyReader {
	busy := fail(http.StatusServiceUnavailable, "in_flight",
		"the server holds as many events as it may (max_in_flight): send again later")
	busy.retryAfter = c.config.RetryAfter
	return &bodyReader{limits: &c.limits, lease: &c.lease, retry: busy}
}

// admitEvents charges n events to the tenant.
func (c *call) admitEvents(n int) error {
	if wait := c.rates.events.take(c.now, n); wait > 0 {
		return tooFast("events_per_second", strconv.Itoa(c.limits.EventsPerSecond), wait)
	}
	return nil
}

// publish appends values to the signal's topic; it returns when they are acknowledged. A client that hangs up
// does not stop it: half of a request's records would be in the log for nothing.
func (c *call) publish(contentType string, values []keyedValue) error {
	if len(values) == 0 {
		return nil
	}
	topic := c.topic(c.signal)
	headers := []Header{
		{HeaderTenant, []byte(c.tenant)},
		{HeaderContentType, []byte(contentType)},
		{HeaderReceived, strconv.AppendInt(nil, c.now.UnixMilli(), 10)},
	}
	records := make([]Record, len(values))
	for i, v := range values {
		records[i] = Record{Topic: topic, Key: c.key(v.shard), Value: v.value, Headers: headers}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.r.Context()), c.config.PublishTimeout)
	defer cancel()
	if err := c.publisher.Publish(ctx, records); err != nil {
		c.body = new([]byte) // the publisher may still hold it
		return err
	}
	c.metrics.records.Add(float64(len(records)))
	return nil
}

// keyedValue is the value of one record and the shard its key names.
type keyedValue struct {
	shard int
	value []byte
}

// key is the tenant, and for shards beyond the first tenant#shard.
func (c *call) key(shard int) []byte {
	key := []byte(c.tenant)
	if shard > 0 {
		key = strconv.AppendInt(append(key, '#'), int64(shard), 10)
	}
	return key
}

// tooEarlyOrLate refuses event times that the stream workers would not admit either.
func (c *call) tooEarlyOrLate(nanos int64) (events.Reason, string) {
	switch {
	case nanos < c.now.Add(-c.config.MaxPast).UnixNano():
		return events.ReasonTooOld, fmt.Sprintf("the time is %s, more than max_past (%s) ago", clock(nanos), c.config.MaxPast)
	case nanos > c.now.Add(c.config.MaxFuture).UnixNano():
		return events.ReasonTooNew,
			fmt.Sprintf("the time is %s, more than max_future (%s) ahead: check the sender's clock",
				clock(nanos), c.config.MaxFuture)
	}
	return "", ""
}

func clock(nanos int64) string { return time.Unix(0, nanos).UTC().Format(time.RFC3339Nano) }

// decoders keeps one decoder for every set of label limits, and batches for all.
type decoders struct {
	byLimits sync.Map // labelLimits → *events.Decoder
	batches  sync.Pool
}

type labelLimits struct{ labels, name, value, body int }

// maxRequestEvents bounds the events of one request, whatever its size.
const maxRequestEvents = 500_000

func (d *decoders) of(l *tenants.Limits) *events.Decoder {
	key := labelLimits{l.MaxLabels, int(l.MaxLabelName), int(l.MaxLabelValue), int(l.MaxDecompressed)}
	if decoder, ok := d.byLimits.Load(key); ok {
		return decoder.(*events.Decoder)
	}
	decoder, _ := d.byLimits.LoadOrStore(key, events.NewDecoder(events.Options{
		MaxRecord: key.body, MaxEvents: maxRequestEvents,
		MaxLabels: key.labels, MaxName: key.name, MaxValue: key.value,
	}))
	return decoder.(*events.Decoder)
}

func (d *decoders) batch() *events.Batch {
	if b, ok := d.batches.Get().(*events.Batch); ok {
		return b
	}
	return new(events.Batch)
}

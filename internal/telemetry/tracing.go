package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync/atomic"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// TracingConfig says where a service sends the spans of its own HTTP calls.
type TracingConfig struct {
	// Endpoint is the base URL of an OTLP/HTTP receiver, for example http://127.0.0.1:7071 for Vigie's own
	// ingest. Default empty: no spans are recorded.
	Endpoint string `yaml:"endpoint"`
	// APIKeyFile holds the key sent with every export, alone on its first line. Default empty: no key is sent.
	APIKeyFile string `yaml:"api_key_file"`
}

// Validate says which value is wrong.
func (c TracingConfig) Validate() error {
	if c.Endpoint == "" {
		return nil
	}
	if u, err := url.Parse(c.Endpoint); err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return fmt.Errorf("tracing.endpoint %q: want a URL like http://127.0.0.1:7071", c.Endpoint)
	}
	return nil
}

// noMeters keeps the instrumentation from counting: Vigie counts on its own registry.
var noMeters = metricnoop.NewMeterProvider()

// selfHeader marks the export of Vigie's own spans: a span about exporting spans would never end.
const selfHeader = "X-Vigie-Self"

// Tracing records the spans of a service's HTTP requests, in and out. The zero value records nothing.
type Tracing struct {
	provider trace.TracerProvider
	close    func(context.Context) error
}

// NewTracing exports to c.Endpoint in the background; spans beyond its queue of 2,048 are dropped, never waited for.
// key is sent as a bearer token when it is not empty. log hears when exports begin to fail, and when they succeed
// again.
func NewTracing(ctx context.Context, c TracingConfig, service, version, key string, log *slog.Logger) (*Tracing, error) {
	if c.Endpoint == "" {
		return &Tracing{}, nil
	}
	headers := map[string]string{selfHeader: "1"}
	if key != "" {
		headers["Authorization"] = "Bearer " + key
	}
	exporter, err := otlptracehttp.New(ctx,
		otlptracehttp.WithEndpointURL(c.Endpoint+"/v1/traces"), otlptracehttp.WithHeaders(headers))
	if err != nil {
		return nil, fmt.Errorf("export spans to %s: %w", c.Endpoint, err)
	}
	reporting := &reportingExporter{SpanExporter: exporter, endpoint: c.Endpoint, log: log}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(reporting),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", service), attribute.String("service.version", version))),
	)
	return &Tracing{provider: provider, close: func(ctx context.Context) error {
		reporting.closing.Store(true)
		return provider.Shutdown(ctx)
	}}, nil
}

// reportingExporter tells of failures itself: the SDK would write each to standard error, in no form. Of the last spans
// it does not tell, as their receiver may have ended first.
type reportingExporter struct {
	sdktrace.SpanExporter
	endpoint string
	log      *slog.Logger
	failing  bool // ExportSpans is called by one goroutine at a time
	closing  atomic.Bool
}

// ExportSpans implements sdktrace.SpanExporter.
func (e *reportingExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	if e.closing.Load() {
		return nil
	}
	switch {
	case err != nil && !e.failing:
		e.log.Warn("spans of this process are lost until they can be exported", "endpoint", e.endpoint, "err", err)
	case err == nil && e.failing:
		e.log.Info("spans of this process are exported again", "endpoint", e.endpoint)
	}
	e.failing = err != nil
	return nil
}

// Close sends what is queued, within ctx.
func (t *Tracing) Close(ctx context.Context) error {
	if t == nil || t.close == nil {
		return nil
	}
	return t.close(ctx)
}

// Handler records a server span for every request to next but the export of spans itself.
func (t *Tracing) Handler(next http.Handler) http.Handler {
	if t == nil || t.provider == nil {
		return next
	}
	return otelhttp.NewHandler(next, "http",
		otelhttp.WithTracerProvider(t.provider),
		otelhttp.WithMeterProvider(noMeters),
		otelhttp.WithFilter(func(r *http.Request) bool { return r.Header.Get(selfHeader) == "" }))
}

// Transport records a client span for every request that next sends; name names the peer in the span.
func (t *Tracing) Transport(next http.RoundTripper, name string) http.RoundTripper {
	if t == nil || t.provider == nil {
		return next
	}
	return otelhttp.NewTransport(next,
		otelhttp.WithTracerProvider(t.provider),
		otelhttp.WithMeterProvider(noMeters),
		otelhttp.WithSpanNameFormatter(func(_ string, r *http.Request) string { return name + " " + r.Method }),
		otelhttp.WithSpanOptions(trace.WithAttributes(attribute.String("peer.service", name))))
}

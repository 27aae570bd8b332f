package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vigie-io/vigie/internal/config"
	"github.com/vigie-io/vigie/internal/pause"
	"github.com/vigie-io/vigie/internal/telemetry"
)

// Process is what a service takes from the process it runs in.
type Process struct {
	Name    string
	Version string
	Log     *slog.Logger
	// Ready, when set, is called once with the service's readiness check as soon as its address is open.
	Ready func(telemetry.Check)
	// Registry holds the service's metrics; nil makes a new one.
	Registry Registry
	// Reread puts the configuration together anew, for a reload; nil when it comes from nowhere that can be read again.
	Reread func() (config.Config, error)
	// TracingKey is the API key for the service's own spans; "" reads tracing.api_key_file.
	TracingKey string
}

// Registry is a *prometheus.Registry, or what watches one.
type Registry interface {
	prometheus.Registerer
	prometheus.Gatherer
}

// Runner runs a service until ctx ends, then lets it finish. A nil error is a clean end.
type Runner func(ctx context.Context, cfg config.Config, p Process) error

// traceFlush bounds how long a service's end waits for its last spans.
const traceFlush = 500 * time.Millisecond

// endpoint is a service's HTTP listener with the admin endpoints on it.
type endpoint struct {
	listener net.Listener
	mux      *http.ServeMux
	tracing  *telemetry.Tracing
	tenants  bool // tenants reach it, too: what names them is for operators

	openMetrics bool
}

func (p *Process) prepare() {
	if p.Registry == nil {
		p.Registry = telemetry.NewRegistry(p.Version)
	}
}

// open listens for a service. setting is the key that moves the address.
func (p *Process) open(ctx context.Context, cfg config.Config, addr, setting string) (*endpoint, error) {
	listener, err := telemetry.Listen(addr, p.Name, setting)
	if err != nil {
		return nil, err
	}
	key := p.TracingKey
	if key == "" {
		if key, err = readSecret(cfg.Tracing.APIKeyFile); err != nil {
			return nil, errors.Join(err, listener.Close())
		}
	}
	tracing, err := telemetry.NewTracing(ctx, cfg.Tracing, "vigie-"+p.Name, p.Version, key, p.Log)
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return &endpoint{listener: listener, mux: http.NewServeMux(), tracing: tracing, openMetrics: cfg.Auth.OpenMetrics}, nil
}

// serve answers with the mux and the admin endpoints until ctx ends, and follows reloads of the configuration.
func (e *endpoint) serve(ctx context.Context, r *reloader, p *Process, ready telemetry.Check) error {
	admin := telemetry.Admin{
		Ready: ready, Gatherer: p.Registry, Config: r.yaml,
		Extra: map[string]http.Handler{"POST /-/reload": r.operators(r)},
	}
	if e.tenants {
		admin.Guard, admin.OpenMetrics = r.operators, e.openMetrics
	}
	admin.Mount(e.mux)
	defer r.onHangup(ctx)()
	p.Log.Info("listening", "addr", e.listener.Addr().String())
	if p.Ready != nil {
		p.Ready(ready)
	}
	watching, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() { untilReady(watching, ready, p.Log) })
	err := telemetry.Serve(ctx, e.listener, e.tracing.Handler(e.mux))
	stop()
	watch.Wait()
	return errors.Join(err, e.close())
}

// readyEach is how long a start may take before the log says what it waits for.
const readyEach = 3 * time.Second

// untilReady says in the log why a service cannot do its job yet, each reason once, until it can.
func untilReady(ctx context.Context, ready telemetry.Check, log *slog.Logger) {
	said := ""
	for pause.For(ctx, readyEach) == nil {
		asking, cancel := context.WithTimeout(ctx, readyEach)
		err := ready(asking)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err == nil && said != "":
			log.Info("ready")
			return
		case err == nil:
			return
		case err.Error() != said:
			said = err.Error()
			log.Warn("not ready", "err", err)
		}
	}
}

// release gives the address back of a service that does not come to serve; after serve it changes nothing.
func (e *endpoint) release() { _ = e.listener.Close() }

// close sends the last spans, for as long as that is quick.
func (e *endpoint) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), traceFlush)
	defer cancel()
	if err := e.tracing.Close(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("close tracing: %w", err)
	}
	return nil
}

package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vigie-io/vigie/internal/auth"
	"github.com/vigie-io/vigie/internal/config"
	"github.com/vigie-io/vigie/internal/tenants"
)

// reloader takes a changed configuration over while a service runs, at SIGHUP and at POST /-/reload: the limits of
// tenants, the API keys and the Prometheus rules. A configuration that is not valid is refused whole, and the old one
// stays.
type reloader struct {
	limits  *tenants.Live
	keys    *auth.Authenticator
	rules   *ruleRunner // nil where none are evaluated
	read    func() (config.Config, error)
	log     *slog.Logger
	success prometheus.Gauge
	at      prometheus.Gauge

	mu      sync.Mutex
	current config.Config
}

// newReloader begins with cfg, whose keys it reads, for the requests of a listener.
func newReloader(cfg config.Config, p *Process, listener net.Addr) (*reloader, error) {
	keys, err := auth.New(cfg.Auth, listener)
	if err != nil {
		return nil, err
	}
	r := &reloader{
		limits: tenants.NewLive(cfg.Tenants), keys: keys, read: p.Reread, log: p.Log, current: cfg,
		success: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "vigie_config_last_reload_successful",
			Help: "1 when the last reload of the configuration was taken over, 0 when it was refused.",
		}),
		at: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "vigie_config_last_reload_success_timestamp_seconds",
			Help: "When the configuration that holds was read, Unix seconds.",
		}),
	}
	p.Registry.MustRegister(r.success, r.at)
	r.success.Set(1)
	r.at.SetToCurrentTime()
	return r, nil
}

// reloaded is what a reload changed: keys that hold now, and keys that hold after a restart.
type reloaded struct{ applied, restart []string }

func (r *reloader) reload() (reloaded, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	done, err := r.take()
	if err != nil {
		r.success.Set(0)
		r.log.Error("configuration refused: the old one stays", "err", err)
		return done, err
	}
	r.success.Set(1)
	r.at.SetToCurrentTime()
	r.log.Info("configuration reloaded", "changed", done.applied, "after_restart", done.restart)
	return done, nil
}

func (r *reloader) take() (reloaded, error) {
	if r.read == nil {
		return reloaded{}, errors.New("this process cannot read its configuration again; restart it")
	}
	fresh, err := r.read()
	if err != nil {
		return reloaded{}, err
	}
	// Files first: they alone can still be refused.
	var rules ruleSet
	if r.rules != nil {
		if rules, err = r.rules.load(&fresh); err != nil {
			return reloaded{}, err
		}
	}
	if err := r.keys.Reload(fresh.Auth); err != nil {
		return reloaded{}, fmt.Errorf("auth: %w", err)
	}
	r.limits.Replace(fresh.Tenants)
	if r.rules != nil {
		if err := r.rules.replace(rules); err != nil {
			return reloaded{}, err
		}
	}
	applied, restart := config.Changes(&r.current, &fresh)
	r.hold(&fresh)
	return reloaded{applied, restart}, nil
}

// hold notes what holds now: the old configuration with what was taken over. Further reloads name the rest again.
func (r *reloader) hold(fresh *config.Config) {
	rules := fresh.Rules
	rules.Alertmanagers, rules.AlertmanagerDir = r.current.Rules.Alertmanagers, r.current.Rules.AlertmanagerDir
	rules.ExternalURL = r.current.Rules.ExternalURL
	r.current.Rules = rules
	r.current.Tenants, r.current.Auth.Keys, r.current.Auth.KeysFile = fresh.Tenants, fresh.Auth.Keys, fresh.Auth.KeysFile
}

// yaml is the configuration that holds, secrets masked.
func (r *reloader) yaml() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.current.YAML()
}

// operators lets operators through to next.
func (r *reloader) operators(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		err := r.keys.Operator(request)
		if err == nil {
			next.ServeHTTP(w, request)
			return
		}
		status := http.StatusUnauthorized
		if errors.Is(err, auth.ErrForbidden) {
			status = http.StatusForbidden
		} else {
			w.Header().Set("WWW-Authenticate", auth.Challenge)
		}
		http.Error(w, "for operators: want a key of role admin, or no key, from this machine, to a listener on a loopback address ("+
			err.Error()+")", status)
	})
}

// ServeHTTP answers POST /-/reload.
func (r *reloader) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	done, err := r.reload()
	if err != nil {
		http.Error(w, "refused, the old configuration stays: "+err.Error(), http.StatusBadRequest)
		return
	}
	fmt.Fprintln(w, done)
}

func (d reloaded) String() string {
	text := "reloaded, nothing changed"
	if len(d.applied) > 0 {
		text = "reloaded: " + strings.Join(d.applied, ", ")
	}
	if len(d.restart) > 0 {
		text += "\nrestart to apply: " + strings.Join(d.restart, ", ")
	}
	return text
}

// onHangup reloads at every SIGHUP until ctx ends or the returned function is called, which waits.
func (r *reloader) onHangup(ctx context.Context) (stop func()) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-hangups:
				_, _ = r.reload() // logged and counted
			}
		}
	})
	return func() {
		signal.Stop(hangups)
		cancel()
		running.Wait()
	}
}

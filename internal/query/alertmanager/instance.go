package alertmanager

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/api"
	"github.com/prometheus/alertmanager/config"
	"github.com/prometheus/alertmanager/config/receiver"
	"github.com/prometheus/alertmanager/dispatch"
	"github.com/prometheus/alertmanager/eventrecorder"
	"github.com/prometheus/alertmanager/featurecontrol"
	"github.com/prometheus/alertmanager/inhibit"
	"github.com/prometheus/alertmanager/marker"
	"github.com/prometheus/alertmanager/nflog"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/alertmanager/provider/mem"
	"github.com/prometheus/alertmanager/silence"
	"github.com/prometheus/alertmanager/template"
	"github.com/prometheus/alertmanager/timeinterval"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/common/route"
)

const (
	retention    = 120 * time.Hour // of silences that ended and of what was notified, as upstream's default
	maintenance  = 15 * time.Minute
	alertGC      = 30 * time.Minute
	dispatchIdle = 30 * time.Second
)

// instance is the Alertmanager of one tenant. apply and close are not called at once.
type instance struct {
	external *url.URL
	log      *slog.Logger
	alerts   *mem.Alerts
	groups   marker.GroupMarker
	silencer *silence.Silencer
	notified *nflog.Log
	builder  *notify.PipelineBuilder
	metrics  *dispatch.DispatcherMetrics
	api      *api.API
	handler  http.Handler
	running  sync.WaitGroup
	stop     chan struct{}

	dispatcher atomic.Pointer[dispatch.Dispatcher]
	inhibitor  atomic.Pointer[inhibit.Inhibitor]
}

func newInstance(dir string, external *url.URL, log *slog.Logger) (*instance, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	i := &instance{external: external, log: log, groups: marker.NewGroupMarker(), stop: make(chan struct{})}
	flags := featurecontrol.NoopFlags{}
	var events eventrecorder.Recorder // records nothing
	var err error
	// Upstream's metrics bear no tenant, and could be registered only once.
	if i.notified, err = nflog.New(nflog.Options{Retention: retention, Logger: log,
		Metrics: prometheus.NewRegistry()}); err != nil {
		return nil, err
	}
	silences, err := silence.New(silence.Options{Retention: retention, Logger: log,
		Metrics: prometheus.NewRegistry(), EventRecorder: events})
	if err != nil {
		return nil, err
	}
	for name, of := range map[string]journaled{"nflog": i.notified, "silences": silences} {
		if err := i.keep(filepath.Join(dir, name), of); err != nil {
			return nil, err
		}
	}
	i.silencer = silence.NewSilencer(silences, log, events)
	if i.alerts, err = mem.NewAlerts(context.Background(), alertGC, 0, i.silencer, log, events,
		prometheus.NewRegistry(), flags); err != nil {
		return nil, err
	}
	i.builder = notify.NewPipelineBuilder(prometheus.NewRegistry(), flags, events)
	i.metrics = dispatch.NewDispatcherMetrics(false, nil, flags)
	i.api, err = api.New(api.Options{
		Alerts: i.alerts, Silences: silences, GroupMutedFunc: i.groups.Muted, Logger: log, Registry: prometheus.NewRegistry(),
		RequestDuration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "unused"},
			[]string{"handler", "method", "code"}),
		GroupFunc: i.groupsOf,
	})
	if err != nil {
		return nil, err
	}
	i.handler = i.api.Register(route.New(), "/")
	return i, nil
}

// groupsOf lists alerts by the routes of the configuration in force.
func (i *instance) groupsOf(ctx context.Context, routes func(*dispatch.Route) bool, alerts func(*alert.Alert, time.Time) bool) (
	dispatch.AlertGroups, map[model.Fingerprint][]string, error) {
	return i.dispatcher.Load().Groups(ctx, routes, alerts)
}

// keep reads what was kept, and keeps what changes from now on.
func (i *instance) keep(path string, of journaled) error {
	j, err := openJournal(path, of, i.log)
	if err != nil {
		return err
	}
	of.SetBroadcast(j.append)
	i.running.Go(func() {
		every := time.NewTicker(maintenance)
		defer every.Stop()
		for {
			select {
			case <-i.stop:
				_ = j.file.Close() // every write was synced
				return
			case <-every.C:
			}
			if _, err := j.rewrite(); err != nil {
				i.log.Error("Alertmanager's snapshot cannot be written; the journal goes on", "file", path, "err", err)
			}
		}
	})
	return nil
}

// apply puts a configuration in force. What can fail comes first: then the old one stays.
func (i *instance) apply(cfg *config.Config) error {
	texts, err := template.FromGlobs(cfg.Templates)
	if err != nil {
		return fmt.Errorf("templates: %w", err)
	}
	texts.ExternalURL = i.external
	routes := dispatch.NewRoute(cfg.Route, nil)
	receivers := map[string][]notify.Integration{}
	for _, r := range cfg.Receivers {
		if receivers[r.Name], err = receiver.BuildReceiverIntegrations(r, texts, i.log); err != nil {
			return fmt.Errorf("receiver %s: %w", r.Name, err)
		}
	}
	times := map[string][]timeinterval.TimeInterval{}
	for _, t := range cfg.MuteTimeIntervals {
		times[t.Name] = t.TimeIntervals
	}
	for _, t := range cfg.TimeIntervals {
		times[t.Name] = t.TimeIntervals
	}
	i.halt()
	var events eventrecorder.Recorder
	inhibitor := inhibit.NewInhibitor(i.alerts, cfg.InhibitRules, i.log, events)
	now := func() time.Duration { return 0 }
	pipeline := i.builder.New(receivers, now, inhibitor, i.silencer, timeinterval.NewIntervener(times), i.groups, i.notified, nil)
	i.api.Update(cfg, func(ctx context.Context, labels model.LabelSet) {
		i.inhibitor.Load().Mutes(ctx, labels)
		i.silencer.Mutes(ctx, labels)
	})
	timeout := func(d time.Duration) time.Duration { return max(d, notify.MinTimeout) }
	dispatcher := dispatch.NewDispatcher(i.alerts, routes, pipeline, i.groups, timeout, dispatchIdle, nil,
		i.log, events, i.metrics, texts)
	// The inhibitor has to know the alerts before any of them is told of.
	i.running.Go(inhibitor.Run)
	inhibitor.WaitForLoading()
	i.inhibitor.Store(inhibitor)
	i.running.Go(func() { dispatcher.Run(time.Now()) })
	dispatcher.WaitForLoading()
	i.dispatcher.Store(dispatcher)
	return nil
}

func (i *instance) halt() {
	if inhibitor := i.inhibitor.Load(); inhibitor != nil {
		inhibitor.Stop()
	}
	if dispatcher := i.dispatcher.Load(); dispatcher != nil {
		dispatcher.Stop()
	}
}

func (i *instance) close() {
	i.halt()
	i.alerts.Close()
	close(i.stop)
	i.running.Wait()
}

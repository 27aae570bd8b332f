package alertmanager

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"sync"

	"github.com/prometheus/alertmanager/config"

	"github.com/vigie-io/vigie/internal/tenants"
)

// silent is the configuration of a tenant that has none: alerts can be seen and silenced, and nobody is told.
const silent = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"

// Embedded are the Alertmanagers of tenants in this process. Safe for concurrent use.
type Embedded struct {
	dir      string
	external *url.URL
	log      *slog.Logger

	mu        sync.Mutex
	instances map[tenants.ID]*instance
}

// NewEmbedded keeps what was notified and silenced below dir. externalURL is the address of the API that receivers link
// to.
func NewEmbedded(dir, externalURL string, log *slog.Logger) (*Embedded, error) {
	external, err := url.Parse(externalURL)
	if err != nil {
		return nil, fmt.Errorf("alertmanager: external URL: %w", err)
	}
	return &Embedded{dir: dir, external: external, log: log, instances: map[tenants.ID]*instance{}}, nil
}

// Configs are the configurations of tenants.
type Configs map[tenants.ID]*config.Config

// Read reads the configurations of tenants (alertmanager.yml, "" for none), to be applied.
func Read(paths map[tenants.ID]string) (Configs, error) {
	read := Configs{}
	var errs []error
	for tenant, path := range paths {
		var cfg *config.Config
		var err error
		if path == "" {
			cfg, err = config.Load(silent)
		} else {
			cfg, err = config.LoadFile(path)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("alertmanager of %s: %s: %w", tenant, path, err))
		}
		read[tenant] = cfg
	}
	return read, errors.Join(errs...)
}

// Apply starts the Alertmanagers of new tenants, gives the others their configuration, and ends those of tenants that
// are not there any more.
func (e *Embedded) Apply(configs Configs) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for tenant, i := range e.instances {
		if configs[tenant] == nil {
			i.close()
			delete(e.instances, tenant)
		}
	}
	for tenant, cfg := range configs {
		i := e.instances[tenant]
		if i == nil {
			var err error
			if i, err = newInstance(filepath.Join(e.dir, string(tenant)), e.external, e.log.With("tenant", tenant)); err != nil {
				return fmt.Errorf("alertmanager of %s: %w", tenant, err)
			}
			e.instances[tenant] = i
		}
		if err := i.apply(cfg); err != nil {
			return fmt.Errorf("alertmanager of %s: %w", tenant, err)
		}
	}
	return nil
}

// Close ends all, and leaves behind what they have to know when they start again.
func (e *Embedded) Close() { _ = e.Apply(nil) }

func (e *Embedded) of(tenant tenants.ID) *instance {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.instances[tenant]
}

// Send gives alerts (API v2's postable alerts, as JSON) to the tenant's Alertmanager.
func (e *Embedded) Send(ctx context.Context, tenant tenants.ID, alerts []byte) error {
	i := e.of(tenant)
	if i == nil {
		return fmt.Errorf("alertmanager of %s: there is none", tenant)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "/api/v2/alerts", bytes.NewReader(alerts))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	answer := &answer{header: http.Header{}, status: http.StatusOK}
	i.handler.ServeHTTP(answer, request)
	if answer.status/100 != 2 {
		return fmt.Errorf("alertmanager of %s: %d %s", tenant, answer.status, answer.body.String())
	}
	return nil
}

// answer keeps what a handler answers.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header            { return a.header }
func (a *answer) WriteHeader(status int)         { a.status = status }
func (a *answer) Write(text []byte) (int, error) { return a.body.Write(text) }

// ServeHTTP answers /api/v2/… for the tenant in the context.
func (e *Embedded) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	tenant, ok := tenants.FromContext(r.Context())
	i := e.of(tenant)
	if !ok || i == nil {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		_ = json.NewEncoder(w).Encode("this tenant has no rules, and so no Alertmanager: see rules.tenants") // the client has gone
		return
	}
	i.handler.ServeHTTP(w, r)
}

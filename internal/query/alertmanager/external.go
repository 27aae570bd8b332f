package alertmanager

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/vigie-io/vigie/internal/alertapi"
	"github.com/vigie-io/vigie/internal/tenants"
)

// External are Alertmanagers elsewhere. Each is given every alert: they agree among themselves who tells whom.
type External struct {
	clients []*alertapi.Client
}

// NewExternal names Alertmanagers by their base addresses; timeout bounds one request.
func NewExternal(urls []string, timeout time.Duration) *External {
	e := &External{}
	for _, url := range urls {
		e.clients = append(e.clients, alertapi.New(url, timeout))
	}
	return e
}

// Send names the tenant in the header X-Scope-OrgID. It returns nil when at least one has taken the alerts.
func (e *External) Send(ctx context.Context, tenant tenants.ID, alerts []byte) error {
	errs := make([]error, len(e.clients))
	var sending sync.WaitGroup
	for i, client := range e.clients {
		sending.Go(func() {
			errs[i] = client.Post(ctx, alerts, func(r *http.Request) { r.Header.Set("X-Scope-OrgID", string(tenant)) })
		})
	}
	sending.Wait()
	if slices.Contains(errs, nil) {
		return nil
	}
	return errors.Join(errs...)
}

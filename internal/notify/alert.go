package notify

import (
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"github.com/vigie-io/vigie/internal/alertapi"
)

// Record is one record of the topic of alerts.
type Record struct {
	Partition int32
	Offset    int64
	Time      time.Time // when it was written
	Value     []byte
}

// alert is what is known of an alert: its last record.
type alert struct {
	Tenant      string            `json:"tenant"`
	Name        string            `json:"alert"`
	State       string            `json:"state"`
	Severity    string            `json:"severity"`
	Route       string            `json:"route"`
	Labels      map[string]string `json:"labels"`
	Fingerprint string            `json:"fingerprint"`
	StartsAt    time.Time         `json:"starts_at"`
	EndsAt      time.Time         `json:"ends_at"`
	Annotations map[string]string `json:"annotations"`

	written time.Time // the time of its record
}

const (
	stateFiring   = "firing"
	stateResolved = "resolved"
)

func parseAlert(value []byte) (*alert, error) {
	a := new(alert)
	if err := json.Unmarshal(value, a); err != nil {
		return nil, fmt.Errorf("read an alert: %w", err)
	}
	if a.Tenant == "" || a.Name == "" || a.Fingerprint == "" || a.StartsAt.IsZero() {
		return nil, fmt.Errorf("read an alert: tenant %q, alert %q, fingerprint %q, starts_at %s: want all of them", a.Tenant,
			a.Name, a.Fingerprint, a.StartsAt)
	}
	if a.State != stateFiring && (a.State != stateResolved || a.EndsAt.IsZero()) {
		return nil, fmt.Errorf("read an alert: state %q: want firing, or resolved and ends_at", a.State)
	}
	return a, nil
}

// post makes what Alertmanager is sent. The alert's own labels give way to those that say whose it is, as exported_: a
// tenant must not be able to speak for another. One that fires ends at until, unless it is sent again before.
func (a *alert) post(until time.Time) alertapi.Alert {
	p := alertapi.Alert{Labels: maps.Clone(a.Labels), Annotations: a.Annotations, StartsAt: a.StartsAt, EndsAt: until}
	if p.Labels == nil {
		p.Labels = map[string]string{}
	}
	for name, value := range map[string]string{"tenant": a.Tenant, "alertname": a.Name, "severity": a.Severity, "route": a.Route} {
		if value == "" {
			continue
		}
		if own := a.Labels[name]; own != "" {
			p.Labels["exported_"+name] = own
		}
		p.Labels[name] = value
	}
	if a.State == stateResolved {
		p.EndsAt = a.EndsAt
	}
	return p
}

package pipeline

import (
	"github.com/vigie-io/vigie/internal/pipeline/aggregate"
	"github.com/vigie-io/vigie/internal/pipeline/alerting"
	"github.com/vigie-io/vigie/pkg/rules"
)

// alert gives an event to the alerts whose condition it meets. m is its own measure.
func (t *Task) alert(tenant string, at int64, f rules.Fields, m *aggregate.Measurement) {
	if !t.alerts.Any() {
		return
	}
	tn := t.named(tenant)
	if tn == nil {
		return
	}
	// Its series may have met a limit: alerts take it all the same.
	tn.seen, tn.newest = t.now, max(tn.newest, at)
	t.touch(tn)
	if tn.alerts == nil {
		tn.alerts = t.alerts.Tenant(tn.name)
	}
	t.alerts.Advance(tn.alerts, tn.newest)
	for i, r := range t.alerts.Rules {
		if !r.Rollup.Meets(tn.name, f, m) {
			continue
		}
		measured := t.measured(r.Rollup, m)
		if measured == nil || !t.labelled(&r.Rollup.Groupings[0], tn.name, f) {
			continue
		}
		sample := alerting.Sample{Time: at, Labels: t.labels, Fields: f, Of: measured}
		if reason := t.alerts.Add(tn.alerts, i, tn.newest, &sample); reason != "" {
			t.tally.alertMissed(tn.name, reason)
		}
	}
}

// silentAlerts judges a silent tenant, whose clock is taken to have gone on.
func (t *Task) silentAlerts(tenant string, clock int64) {
	if t.alerts.Any() && clock > 0 && clock < maxPaneTime {
		t.alerts.Advance(t.alerts.Tenant(tenant), clock)
	}
}

// drainAlerts appends the epoch's messages to out.
func (t *Task) drainAlerts(out *Outputs) {
	t.alerts.Messages(func(tenant, state string, value []byte) {
		t.tally.alert(tenant, state)
		out.Alerts = append(out.Alerts, Message{
			Topic: t.cfg.Config.AlertsTopic, Partition: -1, Key: []byte(tenant), Value: value,
			Headers: []Header{{HeaderContentType, []byte("application/json")}},
		})
	})
}

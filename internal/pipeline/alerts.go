package pipeline

import (
	"github.com/vigie-io/vigie/internal/pipeline/aggregate"
	"github.com/vigie-io/vigie/pkg/rules"
)

// alert gives an event to the alerts whose condition it meets. m is its own measure.
func (t *Task) alert(tenant string, at int64, f rules.Fields, m *aggregate.Measurement) {
	if !t.alerts.any() {
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
		tn.alerts = t.alerts.tenant(tn.name)
	}
	t.alerts.advance(tn.alerts, tn.newest)
	for i, r := range t.alerts.rules {
		if !r.meets(tn.name, f, m) {
			continue
		}
		measured := t.measured(r.rollup, m)
		if measured == nil || !t.labelled(&r.groupings[0], tn.name, f) {
			continue
		}
		sample := alertSample{at, t.labels, f, measured}
		if reason := t.alerts.add(tn.alerts, i, tn.newest, &sample); reason != "" {
			t.tally.alertMissed(tn.name, reason)
		}
	}
}

// silentAlerts judges a silent tenant, whose clock is taken to have gone on.
func (t *Task) silentAlerts(tenant string, clock int64) {
	if t.alerts.any() && clock > 0 && clock < maxPaneTime {
		t.alerts.advance(t.alerts.tenant(tenant), clock)
	}
}

// drainAlerts appends the epoch's messages to out.
func (t *Task) drainAlerts(out *Outputs) {
	t.alerts.messages(func(tenant, state string, value []byte) {
		t.tally.alert(tenant, state)
		out.Alerts = append(out.Alerts, Message{
			Topic: t.cfg.Config.AlertsTopic, Partition: -1, Key: []byte(tenant), Value: value,
			Headers: []Header{{HeaderContentType, []byte("application/json")}},
		})
	})
}

package alerting

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vigie-io/vigie/pkg/rules"
	"github.com/vigie-io/vigie/pkg/series"
)

// Why an alert message was written.
const (
	messageFiring    = "firing"
	messageResolved  = "resolved"
	messageForgotten = "forgotten" // no event for forget_after
	messageRemoved   = "removed"   // configuration no longer has the alert
)

// message is the value of a record of vigie.alerts.v1: docs/format/alert.md.
type message struct {
	Version     int                `json:"version"`
	Tenant      string             `json:"tenant"`
	Alert       string             `json:"alert"`
	State       string             `json:"state"`
	Reason      string             `json:"reason,omitempty"`
	Severity    string             `json:"severity"`
	Route       string             `json:"route,omitempty"`
	Labels      map[string]string  `json:"labels"`
	Group       map[string]string  `json:"group"`
	Fingerprint string             `json:"fingerprint"`
	ActiveAt    time.Time          `json:"active_at"`
	StartsAt    time.Time          `json:"starts_at"`
	EndsAt      *time.Time         `json:"ends_at,omitempty"`
	When        string             `json:"when,omitempty"`
	Over        string             `json:"over,omitempty"`
	Value       map[string]float64 `json:"value,omitempty"`
	Annotations map[string]string  `json:"annotations,omitempty"`
}

// event is a message of the epoch, and what it is sorted by.
type event struct {
	tenant string
	at     int64
	key    string
	state  string
	value  []byte
}

// Messages calls emit for the epoch's messages, by tenant, time and alert, so that their order does not depend on that
// of a map.
func (a *Alerts) Messages(emit func(tenant, state string, value []byte)) {
	slices.SortFunc(a.fired, func(x, y event) int {
		return cmp.Or(strings.Compare(x.tenant, y.tenant), cmp.Compare(x.at, y.at), strings.Compare(x.key, y.key))
	})
	for _, e := range a.fired {
		emit(e.tenant, e.state, e.value)
	}
}

// tell notes that an alert fires or has ended; status is what it is, or was. Measures are those at hand. A nil rule is
// one that configuration no longer has.
func (a *Alerts) tell(r *Rule, tenant string, k *instance, why string, status rules.Status, at int64) {
	_, name, labels, err := series.ParseKey([]byte(k.name))
	if err != nil {
		panic(fmt.Sprintf("BUG: key of an alert %x: %v", k.name, err))
	}
	m := message{
		Version: 1, Tenant: tenant, Alert: name, State: messageFiring, Severity: severities[k.told], Labels: map[string]string{},
		Group:       map[string]string{},
		Fingerprint: series.Hash([]byte(tenant + "\x00" + k.name)).String(),
		ActiveAt:    time.Unix(0, status.Active).UTC(), StartsAt: time.Unix(0, status.Fired).UTC(),
	}
	for _, l := range labels {
		m.Labels[l.Name] = l.Value
	}
	if why != messageFiring {
		ends := time.Unix(0, at).UTC()
		m.State, m.Reason, m.EndsAt = messageResolved, why, &ends
	}
	if r != nil {
		a.describe(r, &m)
	}
	a.fired = append(a.fired, event{tenant, at, k.name, m.State, m.json()})
}

// json is the message as it is written, with conditions as people write them.
func (m *message) json() []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(m); err != nil {
		panic("BUG: encode an alert: " + err.Error())
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// describe adds what the rule says, and the measures that its conditions look at.
func (a *Alerts) describe(r *Rule, m *message) {
	m.Route, m.When, m.Over = r.Route, r.when.String(), r.Over.String()
	for i, label := range r.Rollup.Groupings[0].Labels {
		if value := m.Labels[label]; value != "" && slices.Contains(r.Group, r.Rollup.Groupings[0].Fields[i]) {
			m.Group[label] = value
		}
	}
	m.Value = map[string]float64{"count": float64(a.measures.Now.Count)}
	names := r.when.Fields()
	if r.until != nil {
		names = append(slices.Clip(names), r.until.Fields()...)
	}
	for _, name := range names {
		if v, ok := a.measures.Number(name); ok && !math.IsInf(v, 0) && v == v {
			m.Value[name] = v
		}
	}
	m.Annotations = map[string]string{"summary": a.summary(r, names)}
	for key, text := range r.Annotations {
		m.Annotations[key] = placeholder.ReplaceAllStringFunc(text, func(s string) string {
			name := s[2 : len(s)-1]
			if value := m.Labels[name]; value != "" || slices.Contains(r.Rollup.Groupings[0].Labels, name) {
				return value
			}
			if v, ok := a.measures.Number(name); ok {
				return forPeople(name, v)
			}
			return "?"
		})
	}
}

// summary says why, where the rule has no text of its own: the measures of its conditions, and what they are compared with.
func (a *Alerts) summary(r *Rule, names []string) string {
	var b strings.Builder
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			continue
		}
		if i > 0 {
			b.WriteString(", ")
		}
		value := "unknown"
		if v, ok := a.measures.Number(name); ok {
			value = forPeople(name, v)
		}
		b.WriteString(name + " is " + value)
	}
	return fmt.Sprintf("%s over %s; fires when %s", &b, spoken(r.Over), r.when)
}

// spoken is d, of whole seconds, without the zeros that time.Duration ends in: 5m, 1h, 1h30m.
func spoken(d time.Duration) string {
	text := d.String()
	if d%time.Minute == 0 {
		text = strings.TrimSuffix(text, "0s")
	}
	if d%time.Hour == 0 {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// forPeople writes a measure into a text: shares and growth in per cent, large numbers in full.
func forPeople(measure string, v float64) string {
	switch {
	case measure == "share":
		return inDigits(100*v) + " %"
	case strings.HasPrefix(measure, "change.") && v > 0:
		return "+" + inDigits(100*v) + " %"
	case strings.HasPrefix(measure, "change."):
		return inDigits(100*v) + " %"
	}
	return inDigits(v)
}

// inDigits is v to four digits, or to the unit where that is more.
func inDigits(v float64) string {
	if size := math.Abs(v); size >= 1000 && size < 1e15 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}

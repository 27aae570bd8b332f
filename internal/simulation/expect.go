package simulation

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/pipeline"
)

// expectStep checks one figure.
type expectStep struct {
	what           string
	tenant, metric string        // of count, sum, min, max
	pane           time.Duration // start since the World's; negative is all panes
	service        string
	least          bool // the figure may be greater
	figure         float64
}

// figures are what can be expected of a tenant's metric. minutes is the count in the tier of a minute.
var figures = []string{"count", "minutes", "sum", "min", "max"}

func parseExpect(s *statement) Step {
	what := s.oneOf("what", "count", "minutes", "sum", "min", "max", "exact", "deadletters", "parked", "duplicates", "deduplicated",
		"aborted", "failed")
	e := expectStep{what: what, pane: -1}
	if e.what == "exact" {
		return e
	}
	for _, f := range figures {
		if e.what == f {
			e.tenant, e.metric = s.name("tenant"), s.name("metric")
			e.pane, e.service = s.durationField("pane", -1), s.nameField("service", "")
		}
	}
	text := s.word("figure")
	rest, least := strings.CutPrefix(text, "+")
	figure, err := strconv.ParseFloat(rest, 64)
	if s.err == nil && (err != nil || figure != figure || figure > 1e12 || figure < -1e12) {
		s.fail("figure %q: want a number, or + and the least number", text)
	}
	e.least, e.figure = least, figure+0
	return e
}

func (e expectStep) String() string {
	if e.what == "exact" {
		return "expect exact"
	}
	var b strings.Builder
	b.WriteString("expect " + e.what)
	if e.tenant != "" {
		b.WriteString(" " + e.tenant + " " + e.metric)
	}
	b.WriteByte(' ')
	if e.least {
		b.WriteByte('+')
	}
	b.WriteString(strconv.FormatFloat(e.figure, 'f', -1, 64))
	return b.String() + add(add(nil, "pane", e.pane, -1), "service", e.service, "").String()
}

func (e expectStep) run(w *World) error {
	if e.what == "exact" {
		return w.exact()
	}
	got, err := e.read(w)
	if err != nil {
		return err
	}
	if got != e.figure && (!e.least || got < e.figure) {
		return fmt.Errorf("got %v", got)
	}
	return nil
}

func (e expectStep) read(w *World) (float64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	switch e.what {
	case "deadletters":
		letters, err := w.letters(ctx)
		return float64(len(letters)), err
	case "parked":
		parked, err := w.parked(ctx)
		return float64(len(parked)), err
	case "duplicates":
		return max(0, float64(w.Server.Contents().total())-float64(w.Recount.total())), nil
	case "deduplicated":
		return float64(w.Server.deduplicated()), nil
	case "aborted", "failed":
		return w.epochs(e.what)
	}
	return e.stored(w.Server.Contents()), nil
}

// stored is a figure of what readers see of a metric.
func (e expectStep) stored(contents Contents) float64 {
	all, table := newCell(), finest
	if e.what == "minutes" {
		table = "rollups_1m"
	}
	for key, cell := range contents {
		if key.Table != table || key.Tenant != e.tenant || key.Metric != e.metric ||
			e.service != "" && key.Service != e.service {
			continue
		}
		if e.pane >= 0 && time.Unix(int64(key.Start), 0).Sub(epoch) != e.pane {
			continue
		}
		all.merge(cell)
	}
	switch e.what {
	case "count", "minutes":
		return float64(all.Count)
	case "sum":
		return all.Sum
	case "min":
		return all.Min
	default:
		return all.Max
	}
}

// epoch is when time begins in a bubble of testing/synctest.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// epochs counts the epochs that ended in a way.
func (w *World) epochs(result string) (float64, error) {
	families, err := w.registry.Gather()
	if err != nil {
		return 0, fmt.Errorf("gather metrics: %w", err)
	}
	for _, family := range families {
		if family.GetName() != "vigie_pipeline_epochs_total" {
			continue
		}
		for _, m := range family.GetMetric() {
			if m.GetLabel()[0].GetValue() == result {
				return m.GetCounter().GetValue(), nil
			}
		}
	}
	return 0, nil
}

// letters counts the dead letters by the position of their source record.
func (w *World) letters(ctx context.Context) (map[string]int, error) {
	out := map[string]int{}
	err := w.read(ctx, w.cfg.Topics.DLQ.Name, func(r *kgo.Record) {
		at := map[string]string{}
		for _, h := range r.Headers {
			at[h.Key] = string(h.Value)
		}
		out[position(at[pipeline.HeaderDLQTopic], at[pipeline.HeaderDLQPartition], at[pipeline.HeaderDLQOffset])]++
	})
	return out, err
}

// exact compares everything that is stored, and what waits for repair, with the recount.
func (w *World) exact() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	server, stored := w.Server, w.Server.Contents()
	parked, err := w.parked(ctx)
	if err != nil {
		return err
	}
	if len(parked) > 0 {
		// Repairing is inserting again under the same token.
		repaired := w.Server.clone()
		for token, r := range parked {
			if err := repaired.repair(token, r); err != nil {
				return err
			}
		}
		server, stored = repaired, repaired.Contents()
	}
	if difference := w.difference(server, stored, w.Recount.all()); difference != "" {
		return errors.New(difference)
	}
	if len(parked) == 0 {
		if lost := w.Server.unannounced(); lost != "" {
			return fmt.Errorf("%s: its series was never announced", lost)
		}
	}
	return w.exactLetters(ctx)
}

func (w *World) exactLetters(ctx context.Context) error {
	letters, err := w.letters(ctx)
	if err != nil {
		return err
	}
	for at, n := range letters {
		if !w.refused[at] || n != 1 {
			return fmt.Errorf("record %s: got %d dead letters, want %v", at, n, w.refused[at])
		}
	}
	if len(letters) != len(w.refused) {
		return fmt.Errorf("got dead letters of %d records, want %d", len(letters), len(w.refused))
	}
	return nil
}

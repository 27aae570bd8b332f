package backfill_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/backfill"
	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

func asCSV(t testing.TB, header string, all []events.Metric, row func(m *events.Metric) []string) []byte {
	t.Helper()
	var text bytes.Buffer
	out := csv.NewWriter(&text)
	out.UseCRLF = true
	_ = out.Write(strings.Split(header, ","))
	for i := range all {
		_ = out.Write(row(&all[i]))
	}
	if out.Flush(); out.Error() != nil {
		t.Fatal(out.Error())
	}
	return text.Bytes()
}

// Both ways to write labels give what NDJSON gives, quoted line ends included.
func TestCSVIsNDJSON(t *testing.T) {
	all := someMetrics(4_000)
	for i := range all {
		all[i].Labels = append(series.Labels{{Name: "a", Value: fmt.Sprintf("%d\n\"x\",", i%3)}}, all[i].Labels...)
	}
	d := newDatabase(t)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "oracle.ndjson"), ndjson(all))
	if _, _, err := d.run(t, config(filepath.Join(dir, "oracle.ndjson")), nil); err != nil {
		t.Fatal(err)
	}
	want := d.contents(t)
	value := func(m *events.Metric) string { return fmt.Sprint(m.Value) }
	write(t, filepath.Join(dir, "columns.csv.gz"), asCSV(t, "tenant,time,name,kind,value,labels.a,labels.n,labels.service,comment", all, func(m *events.Metric) []string {
		return []string{m.Tenant, fmt.Sprint(m.Time), m.Name, m.Kind.String(), value(m), m.Labels.Get("a"), m.Labels.Get("n"),
			m.Labels.Get("service"), "\n"}
	}))
	write(t, filepath.Join(dir, "json.csv.zst"), asCSV(t, "value,labels,kind,time,name,tenant", all, func(m *events.Metric) []string {
		labels := fmt.Sprintf(`{"a":%q,"n":%q,"service":%q}`, m.Labels.Get("a"), m.Labels.Get("n"), m.Labels.Get("service"))
		return []string{value(m), labels, m.Kind.String(), time.Unix(0, m.Time).UTC().Format(time.RFC3339Nano), m.Name, m.Tenant}
	}))
	for _, name := range []string{"columns.csv.gz", "json.csv.zst"} {
		t.Run(name, func(t *testing.T) {
			d.empty(t)
			sum, out, err := d.run(t, config(filepath.Join(dir, name)), nil)
			if err != nil || sum.Rows != 4_000 || sum.Rejected != 0 {
				t.Fatalf("got %+v, %v, %v, %.500v", sum, err, out.notes, out.rejects)
			}
			same(t, d.contents(t), want)
		})
	}
}

// ledger is a store that keeps the ledger only, and stops a job at its second block.
type ledger struct {
	nowhere
	entries map[int64]backfill.Entry
	calls   int
}

func (l *ledger) Entries(context.Context, string, string) (all []backfill.Entry, err error) {
	for _, e := range l.entries {
		all = append(all, e)
	}
	return all, nil
}

func (l *ledger) Record(_ context.Context, _, _ string, e *backfill.Entry) error {
	l.entries[e.Chunk] = *e
	return nil
}

func (l *ledger) Insert(context.Context, string, string, int, []byte) error {
	if l.calls++; l.calls > 2 && l.calls < 100 {
		l.calls = 100
		return fmt.Errorf("stop: %w", backfill.ErrRefused)
	}
	return nil
}

// A file of several chunks is cut between rows, not lines; a later run cuts it in the same places, and names rows by
// their lines in the file.
func TestCSVChunks(t *testing.T) {
	const rows = 200_000 // of two lines each
	var text bytes.Buffer
	text.WriteString("time,tenant,name,value,labels.a\n")
	at := time.Now().Unix()
	for i := range rows {
		value := "1"
		if i == rows-1 {
			value = "x"
		}
		fmt.Fprintf(&text, "%d,acme,m,%s,\"%d\n\"\n", at, value, i%3)
	}
	path := filepath.Join(t.TempDir(), "a.csv")
	write(t, path, text.Bytes())
	cfg := config(path)
	cfg.Parallel = 1
	store := &ledger{entries: map[int64]backfill.Entry{}}
	out := &output{}
	first, err := backfill.New(cfg, store, clickhouse.Encoder{}, out, nil).Run(t.Context())
	if err == nil || first.Events == 0 {
		t.Fatalf("got %+v, %v, want a stop in the second chunk", first, err)
	}
	second, err := backfill.New(cfg, store, clickhouse.Encoder{}, out, nil).Run(t.Context())
	if err != nil || first.Events+second.Events != rows-1 || second.Rejected != 1 {
		t.Fatalf("got %d and %+v, %v, want %d events in all", first.Events, second, err, rows-1)
	}
	if r := out.rejects[0]; r.Row != 2*rows || r.Reason != string(events.ReasonWrongType) {
		t.Errorf("got %+v, want the row that begins in line %d", r, 2*rows)
	}
	if len(store.entries) != 3 {
		t.Errorf("got %d entries, want the file and two chunks", len(store.entries))
	}
}

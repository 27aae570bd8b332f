package backfill_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/vigie-io/vigie/internal/backfill"
	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/rollup"
	"github.com/vigie-io/vigie/internal/pipeline/verify"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
)

// topic is a source topic of one partition, all of which is stored.
type topic struct{ all []events.Metric }

func (s *topic) Span(context.Context, time.Time) (verify.Span, error) {
	return verify.Span{From: verify.Offsets{0: 0}, To: verify.Offsets{0: int64(len(s.all))}}, nil
}
func (s *topic) Settle(context.Context, verify.Offsets) error { return nil }
func (s *topic) Records(_ context.Context, from, to verify.Offsets, fn func(int32, *pipeline.Record) error) error {
	for i := from[0]; i < to[0]; i++ {
		r := pipeline.Record{Offset: i, Timestamp: time.Now().UnixNano(), Key: []byte(s.all[i].Tenant),
			Value: events.AppendMetric(nil, &s.all[i])}
		if err := fn(0, &r); err != nil {
			return err
		}
	}
	return nil
}
func (s *topic) Refusals(context.Context, time.Time, func(verify.Refusal) error) error { return nil }

// What files brought is counted again from them, beside a topic or alone: a row that was lost or doubled is found, in
// the very hours that a topic alone cannot tell.
func TestFilesAreRecounted(t *testing.T) {
	all := someMetrics(4_000)
	panes := rollup.Declared{Name: "by_service", From: events.Metrics, Where: `name == "m1"`, By: []string{"service"}}
	d, dir := newDatabase(t), t.TempDir()
	streamed := &topic{all[:1_000]}
	d.oneTask(t, streamed.all, []rollup.Declared{panes}, 0)
	bad := []byte("{\"tenant\":\"acme\"}\n" + `{"tenant":"acme","name":"m0","value":1,"time":"2001-01-01T00:00:00Z"}` + "\n")
	write(t, filepath.Join(dir, "a.ndjson"), append(ndjson(all[1_000:3_000]), bad...))
	var text strings.Builder
	text.WriteString("tenant,time,name,kind,value,labels.n,labels.service\n")
	for i := range all[3_000:3_500] {
		m := &all[3_000+i]
		fmt.Fprintf(&text, "%s,%d,%s,%s,%v,%s,%s\n", m.Tenant, m.Time, m.Name, m.Kind, m.Value,
			m.Labels.Get("n"), m.Labels.Get("service"))
	}
	write(t, filepath.Join(dir, "b.csv"), []byte(text.String()))
	type row struct {
		Tenant  string  `parquet:"tenant"`
		Time    int64   `parquet:"time,timestamp(nanosecond)"`
		Name    string  `parquet:"name"`
		Kind    string  `parquet:"kind"`
		Value   float64 `parquet:"value"`
		N       string  `parquet:"labels.n"`
		Service string  `parquet:"labels.service"`
	}
	var rows []row
	for i := range all[3_500:] {
		m := &all[3_500+i]
		rows = append(rows, row{m.Tenant, m.Time, m.Name, m.Kind.String(), m.Value, m.Labels.Get("n"), m.Labels.Get("service")})
	}
	if err := parquet.WriteFile(filepath.Join(dir, "c.parquet"), rows); err != nil {
		t.Fatal(err)
	}
	cfg := config(filepath.Join(dir, "*"))
	cfg.Rollups = []rollup.Declared{panes}
	if _, out, err := d.run(t, cfg, nil); err != nil || len(out.rejects) != 2 {
		t.Fatalf("got %v and %d rejects, want 2", err, len(out.rejects))
	}

	store := clickhouse.NewBackfill(d.Client)
	limits := tenants.DefaultConfig()
	count := func(table verify.Table, source verify.Source, job string) (verify.Summary, []string) {
		t.Helper()
		files, err := backfill.NewRecount(t.Context(), cfg, store)
		if err != nil {
			t.Fatal(err)
		}
		what := verify.Config{
			Signal: files.Signal(), Table: table, Memory: 64 << 20, MaxPast: 72 * time.Hour,
			MaxFuture: 5 * time.Minute, MaxTenants: 100,
			Rollups: cfg.Rollups, Limits: limits.For, Now: time.Now(),
		}
		if job != "" {
			what.Files = files
		}
		if what.Added, err = store.Added(t.Context(), job); err != nil {
			t.Fatal(err)
		}
		var found []string
		sum, err := verify.Run(t.Context(), what, source, clickhouse.NewStore(d.Client), func(d verify.Difference) { found = append(found, d.String()) })
		if err != nil {
			t.Fatal(err)
		}
		return sum, found
	}
	table := verify.Tables()[0]
	without, _ := count(table, streamed, "")
	for _, table := range verify.Tables() {
		sum, found := count(table, streamed, "test")
		if len(found) > 0 || sum.Rows == 0 || sum.Incomparable > 0 || sum.Events != 4_000 || sum.Refused != 2 {
			t.Errorf("%s: got %+v and %d differences (%.1v), want every row compared", table.Name, sum, len(found), found)
		}
	}
	if without.Incomparable == 0 {
		t.Fatal("the topic alone tells all: the test proves nothing")
	}
	alone, found := count(table, nil, "test")
	if len(found) > 0 || alone.Rows == 0 || alone.Incomparable == 0 || alone.Events != 3_000 {
		t.Errorf("files alone: got %+v and %d differences (%.1v), want none, rows that are theirs alone, and others",
			alone, len(found), found)
	}

	// A row that the files brought is lost; another is there twice.
	var lost events.Metric
	for i := range all[1_000:] {
		if m := all[1_000+i]; m.Tenant == "acme" && m.Name == "m1" {
			lost = m
		}
	}
	d.ask(t, fmt.Sprintf("ALTER TABLE vigie.rollups_10s DELETE WHERE tenant = 'acme' AND metric = 'by_service' AND service = '%s' AND toUnixTimestamp(ts) = %d SETTINGS mutations_sync = 2",
		lost.Labels.Get("service"), lost.Time/1e10*10))
	if _, found := count(table, nil, "test"); len(found) != 1 {
		t.Errorf("files alone: got %d differences (%.1v), want the row that is gone", len(found), found)
	}
	d.ask(t, "INSERT INTO vigie.rollups_10s SELECT * FROM vigie.rollups_10s FINAL WHERE tenant = 'demo' AND metric = 'by_service' LIMIT 1")
	if _, found := count(table, streamed, "test"); len(found) != 2 {
		t.Errorf("got %d differences (%.2v), want the row that is gone and the one that is there twice", len(found), found)
	}

	// Nobody can tell of some files of a job whose rows are whose.
	f := func(pattern, job, want string) {
		t.Helper()
		cfg := cfg
		cfg.Patterns, cfg.Job = []string{filepath.Join(dir, pattern)}, job
		if _, err := backfill.NewRecount(t.Context(), cfg, store); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s of job %s: got %v, want %q", pattern, job, err, want)
		}
	}
	f("a*", "test", "2 more files")
	f("*", "other", "has not loaded it")
	write(t, filepath.Join(dir, "a.ndjson"), ndjson(all[:1]))
	f("*", "test", "has not loaded it")
	if err := os.Remove(filepath.Join(dir, "a.ndjson")); err != nil {
		t.Fatal(err)
	}
	f("*", "test", "1 more files")
}

// Windows that files brought are counted again from them, of all shapes, policies and measures, beside the stream's or
// alone: every stored number that is changed is found.
func TestWindowsOfFilesAreRecounted(t *testing.T) {
	var streamed, loaded []events.Metric
	for i, m := range oldMetrics(3_000) {
		if i%2 == 0 || m.Name == "end" {
			streamed = append(streamed, m)
		} else {
			loaded = append(loaded, m)
		}
	}
	d, dir, rollups := newDatabase(t), t.TempDir(), someWindows()
	d.oneTask(t, streamed, rollups, 0)
	write(t, filepath.Join(dir, "a.ndjson"), ndjson(loaded[:700]))
	write(t, filepath.Join(dir, "b.ndjson"), ndjson(loaded[700:]))
	cfg := config(filepath.Join(dir, "*.ndjson"))
	cfg.Rollups, cfg.Runs, cfg.SplitSessions = rollups, filepath.Join(t.TempDir(), "runs"), true
	if _, _, err := d.run(t, cfg, nil); err != nil {
		t.Fatal(err)
	}
	if n := d.ask(t, "SELECT count() FROM vigie.windows FINAL WHERE startsWith(part, 'backfill/') AND kind = 4"); n == "0\n" {
		t.Fatal("nothing of the files is beside a window: the test proves little")
	}
	limits, stream := tenants.DefaultConfig(), pipeline.DefaultConfig()
	count := func(source verify.Source) (verify.Summary, map[string]int) {
		t.Helper()
		files, err := backfill.NewRecount(t.Context(), cfg, clickhouse.NewBackfill(d.Client))
		if err != nil {
			t.Fatal(err)
		}
		what := verify.Config{
			Signal: files.Signal(), Memory: 1 << 30, MaxPast: stream.MaxPast, MaxFuture: stream.MaxFuture,
			WatermarkDelay: stream.WatermarkDelay, MaxTenants: 100,
			Rollups: rollups, Topic: "t", Limits: limits.For, Now: time.Now(), Files: files, FileParts: files.Parts(),
		}
		if source == nil {
			what.Topic = ""
		}
		found := map[string]int{}
		sum, err := verify.RunWindows(t.Context(), what, source, clickhouse.NewStore(d.Client), func(d verify.Difference) {
			found[d.Metric]++
			if !strings.Contains(d.What, "backfill/test/") {
				t.Errorf("got %s, want windows of the files only", d)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		return sum, found
	}
	for _, source := range []verify.Source{&topic{streamed}, nil} {
		sum, found := count(source)
		if len(found) > 0 || source == nil && sum.Incomparable > 0 || sum.Rows == 0 {
			t.Fatalf("got %+v and differences of %v, want all compared and none", sum, found)
		}
	}
	whole, _ := count(&topic{streamed})
	files, _ := count(nil)
	if files.Rows >= whole.Rows || files.Events != uint64(len(loaded)) {
		t.Errorf("got %d rows of %d and %d events of the files, want a part of the rows and %d events",
			files.Rows, whole.Rows, files.Events, len(loaded))
	}
	// Of each rollup a window loses its greatest value, or is gone.
	for i := range rollups {
		of := fmt.Sprintf("metric = '%s' AND startsWith(part, 'backfill/') ORDER BY tenant, series_id, start, end LIMIT 1",
			rollups[i].Name)
		if i%2 == 0 {
			d.ask(t, "INSERT INTO vigie.windows SELECT * REPLACE (version + 1 AS version, max - 1 AS max) FROM vigie.windows FINAL WHERE "+of)
		} else {
			d.ask(t, "DELETE FROM vigie.windows WHERE (tenant, metric, series_id, start, end, part) IN (SELECT tenant, metric, series_id, start, end, part FROM vigie.windows FINAL WHERE "+of+") SETTINGS lightweight_deletes_sync = 2")
		}
	}
	for _, source := range []verify.Source{&topic{streamed}, nil} {
		_, found := count(source)
		for i := range rollups {
			if found[rollups[i].Name] != 1 {
				t.Errorf("%s: got %d differences, want the window that was changed", rollups[i].Name, found[rollups[i].Name])
			}
		}
	}
}

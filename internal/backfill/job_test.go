package backfill_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/vigie-io/vigie/internal/backfill"
	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/rollup"
	"github.com/vigie-io/vigie/internal/pipeline/verify"
	"github.com/vigie-io/vigie/internal/testkit"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

// Variables that make the test binary a process that loads files and may be killed.
const (
	envLoad = "VIGIE_TEST_BACKFILL"      // pattern
	envAddr = "VIGIE_TEST_BACKFILL_ADDR" // of ClickHouse
	envRuns = "VIGIE_TEST_BACKFILL_RUNS" // folder for windows
)

func TestMain(m *testing.M) {
	if pattern := os.Getenv(envLoad); pattern != "" {
		client, err := connect(os.Getenv(envAddr))
		if err == nil {
			cfg := config(pattern)
			cfg.Runs, cfg.Rollups = os.Getenv(envRuns), slices.Concat(someWindows(), someIncreases())
			_, err = backfill.New(cfg, clickhouse.NewBackfill(client), clickhouse.Encoder{}, &output{}, nil).Run(context.Background())
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		os.Exit(0)
	}
	testkit.Main(m)
}

func config(pattern string) backfill.Config {
	return backfill.Config{
		Job: "test", Signal: events.Metrics, Patterns: []string{pattern}, Parallel: 2,
		MaxPast: 400 * 24 * time.Hour, MaxFuture: 5 * time.Minute,
	}
}

const password = "service-password-1"

func connect(addr string) (*clickhouse.Client, error) {
	cfg := clickhouse.DefaultConfig()
	cfg.Addrs, cfg.Password, cfg.SQLPassword = []string{addr}, password, "sql-password-12345"
	return clickhouse.NewClient(cfg)
}

type output struct {
	notes   []string
	rejects []backfill.Reject
}

func (o *output) Note(line string)                { o.notes = append(o.notes, line) }
func (o *output) Flush() error                    { return nil }
func (o *output) Progress(int64, int64, uint64)   {}
func (o *output) Reject(r *backfill.Reject) error { o.rejects = append(o.rejects, *r); return nil }

// database is a migrated server.
type database struct {
	*clickhouse.Client
	server *testkit.Server
	blocks []verify.Block // of windows, that oneTask has inserted
}

var schema testkit.Prepared

func newDatabase(t testing.TB) *database {
	t.Helper()
	users, err := clickhouse.UsersXML(clickhouse.Access{
		ServicePassword: password, SQLPassword: "sql-password-12345", Limits: clickhouse.DefaultSQLLimits(),
	})
	if err != nil {
		t.Fatal(err)
	}
	server := schema.ClickHouse(t, users, func(s *testkit.Server) {
		client, err := connect(s.HTTPAddr)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		if _, err := client.Migrate(t.Context(), false); err != nil {
			t.Fatal(err)
		}
	})
	client, err := connect(server.HTTPAddr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return &database{Client: client, server: server}
}

func (d *database) ask(t testing.TB, statement string) string {
	t.Helper()
	status, answer := d.server.Post(t, clickhouse.UserService, password, "wait_end_of_query=1", statement)
	if status != http.StatusOK {
		t.Fatalf("%s: %s", statement, answer)
	}
	return answer
}

func (d *database) run(t testing.TB, cfg backfill.Config,
	change func(backfill.Store) backfill.Store) (backfill.Summary, *output, error) {
	t.Helper()
	var store backfill.Store = clickhouse.NewBackfill(d.Client)
	if change != nil {
		store = change(store)
	}
	out := &output{}
	sum, err := backfill.New(cfg, store, clickhouse.Encoder{}, out, nil).Run(t.Context())
	return sum, out, err
}

// contents is every row of every table, merged, sketch bytes included. When a series was last seen is left out: the
// stream says it every few minutes only.
func (d *database) contents(t testing.TB) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, tier := range []string{"10s", "1m", "1h"} {
		all["rollups_"+tier] = d.ask(t,
			"SELECT tenant, metric, service, series_id, ts, count, sum, min, max, last, hex(sketch) FROM vigie.rollups_"+tier+
				" FINAL ORDER BY tenant, metric, service, series_id, ts")
		all["services_"+tier] = d.ask(t,
			"SELECT tenant, metric, service, ts, count, sum, min, max, hex(sketch) FROM vigie.services_"+tier+
				" FINAL ORDER BY tenant, metric, service, ts")
	}
	all["windows"] = d.windows(t)
	all["window_series"] = d.ask(t, "SELECT * FROM vigie.window_series FINAL ORDER BY tenant, metric, series_id")
	all["series"] = d.ask(t, "SELECT tenant, metric, service, series_id, kind, native, unit, help, labels FROM vigie.series GROUP BY ALL ORDER BY ALL")
	return all
}

func same(t *testing.T, got, want map[string]string) {
	t.Helper()
	for table, rows := range want {
		if len(rows) == 0 && !strings.HasPrefix(table, "window") {
			t.Errorf("%s: it is empty, want rows", table)
		}
		if got[table] != rows {
			a, b := strings.Split(got[table], "\n"), strings.Split(rows, "\n")
			t.Errorf("%s: got %d rows, want %d", table, len(a), len(b))
			for i := range min(len(a), len(b)) {
				if a[i] != b[i] {
					t.Errorf("%s row %d: got\n%.300s\nwant\n%.300s", table, i, a[i], b[i])
					break
				}
			}
		}
	}
}

// someMetrics are events of all kinds whose sums are exact, of the last hours.
func someMetrics(n int) []events.Metric {
	r := rand.New(rand.NewPCG(3, 4))
	start := time.Now().Add(-3 * time.Hour)
	all := make([]events.Metric, n)
	for i := range all {
		k := r.IntN(4)
		all[i] = events.Metric{
			Tenant: []string{"acme", "demo"}[r.IntN(2)],
			Time:   start.UnixNano() + r.Int64N(int64(2*time.Hour)), Kind: events.Kind(k),
			Name: fmt.Sprintf("m%d", k), Value: float64(r.IntN(4096)) / 64,
			Labels: series.Labels{{Name: "n", Value: fmt.Sprint(r.IntN(20))},
				{Name: "service", Value: fmt.Sprint("s", r.IntN(3))}},
		}
	}
	return all
}

// stream is what workers make of the events: epochs of many sizes, in two tasks.
func (d *database) stream(t testing.TB, all []events.Metric, rollups ...rollup.Declared) {
	t.Helper()
	for part := range 2 {
		d.oneTask(t, all[part*len(all)/2:(part+1)*len(all)/2], rollups, part)
	}
}

// oneTask is what one worker makes of the events, in their order.
func (d *database) oneTask(t testing.TB, left []events.Metric, rollups []rollup.Declared, part int) {
	t.Helper()
	cfg, now, r, most := pipeline.DefaultConfig(), time.Now().UnixMilli(), rand.New(rand.NewPCG(5, uint64(part))), 1+len(left)/2
	cfg.Rollups = rollups
	task := pipeline.NewTask(pipeline.TaskConfig{Partition: pipeline.Partition{Topic: "t", Partition: int32(part)},
		Signal: events.Metrics, Config: cfg})
	out := pipeline.NewOutputs(&cfg)
	for i := 0; len(left) > 0; i++ {
		n := min(len(left), 1+r.IntN(most))
		var records []pipeline.Record
		for j := range left[:n] {
			records = append(records, pipeline.Record{Key: []byte(left[j].Tenant), Value: events.AppendMetric(nil, &left[j])})
		}
		left = left[n:]
		task.Step(&pipeline.Chunk{Signal: events.Metrics, Records: records}, now)
		task.Drain(out, now)
		blocks := 0
		insert := func(table string, rows int, block []byte, err error) {
			t.Helper()
			if blocks++; err == nil {
				err = d.Insert(t.Context(), table, fmt.Sprintf("s/%d/%d/%d", part, i, blocks), rows, block)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		for _, rows := range out.Rollups {
			block, err := clickhouse.Encoder{}.EncodeRollups(nil, rows)
			insert(pipeline.TableRollups, len(rows.Grain), block, err)
		}
		for _, rows := range out.Series {
			block, err := clickhouse.Encoder{}.EncodeSeries(nil, rows)
			insert(pipeline.TableSeries, len(rows.Tenant), block, err)
		}
		for _, rows := range out.Windows.Blocks {
			block, err := clickhouse.Encoder{}.EncodeWindows(nil, rows)
			insert(pipeline.TableWindows, len(rows.Tenant), block, err)
			d.blocks = append(d.blocks, verify.Block{Rows: len(rows.Tenant), Bytes: block})
		}
		out.Reset()
		task.Committed(false)
	}
}

func ndjson(all []events.Metric) (text []byte) {
	for i := range all {
		text = append(events.AppendMetric(text, &all[i]), '\n')
	}
	return text
}

func write(t testing.TB, path string, text []byte) {
	t.Helper()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var out io.WriteCloser = file
	switch filepath.Ext(path) {
	case ".gz":
		out = gzip.NewWriter(file)
	case ".zst":
		if out, err = zstd.NewWriter(file); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := out.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

func (d *database) empty(t testing.TB) {
	t.Helper()
	for _, table := range []string{"rollups_10s", "rollups_1m", "rollups_1h", "services_10s", "services_1m", "services_1h",
		"series", "label_values", "windows", "window_series", "backfill"} {
		d.ask(t, "TRUNCATE TABLE vigie."+table+" SYNC")
	}
}

func TestBackfillIsStream(t *testing.T) {
	all := someMetrics(20_000)
	stream := newDatabase(t)
	stream.stream(t, all)
	want := stream.contents(t)

	loaded := newDatabase(t)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.ndjson"), ndjson(all[:5_000]))
	write(t, filepath.Join(dir, "b.jsonl.gz"), ndjson(all[5_000:11_000]))
	write(t, filepath.Join(dir, "c.json.zst"), ndjson(all[11_000:]))
	cfg := config(filepath.Join(dir, "*"))
	sum, out, err := loaded.run(t, cfg, nil)
	if err != nil || sum.Files != 3 || sum.Loaded != 0 || sum.Rows != 20_000 || sum.Events != 20_000 || sum.Rejected != 0 {
		t.Fatalf("got %+v, %v, %v", sum, err, out.notes)
	}
	same(t, loaded.contents(t), want)

	// Once more, and the same bytes under another name.
	write(t, filepath.Join(dir, "d.ndjson"), ndjson(all[:5_000]))
	sum, out, err = loaded.run(t, cfg, nil)
	if err != nil || sum.Loaded != 4 || sum.Rows != 0 || !strings.Contains(strings.Join(out.notes, "\n"), "already loaded") {
		t.Fatalf("second run: got %+v, %v, %v", sum, err, out.notes)
	}
	same(t, loaded.contents(t), want)

	// Other settings under the same job would make other blocks.
	other := cfg
	other.Tenant = "acme"
	if _, _, err := loaded.run(t, other, nil); err == nil || !strings.Contains(err.Error(), "same settings") {
		t.Fatalf("other settings: got %v, want a refusal", err)
	}
}

// broken fails a job at its n-th call, before or after the call is carried out.
type broken struct {
	backfill.Store
	left  atomic.Int64
	after bool
}

var errBroken = errors.New("broken")

func (b *broken) fail(call func() error) error {
	if b.left.Add(-1) > 0 {
		return call()
	}
	if b.after {
		_ = call()
	}
	return fmt.Errorf("%w: %w", errBroken, backfill.ErrRefused)
}

func (b *broken) Insert(ctx context.Context, table, token string, rows int, block []byte) error {
	return b.fail(func() error { return b.Store.Insert(ctx, table, token, rows, block) })
}

func (b *broken) Record(ctx context.Context, job, file string, e *backfill.Entry) error {
	return b.fail(func() error { return b.Store.Record(ctx, job, file, e) })
}

func (b *broken) Note(ctx context.Context, job string, hours []backfill.Hours) error {
	return b.fail(func() error { return b.Store.Note(ctx, job, hours) })
}

// A job that breaks at any call, before or after it is carried out, and once more on its second run, ends with what one
// that never breaks has stored. Each of the first calls is broken, and a sample of the others.
func TestBackfillGoesOnAfterAnyCall(t *testing.T) {
	all := someMetrics(600)
	d := newDatabase(t)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.ndjson"), ndjson(all[:200]))
	write(t, filepath.Join(dir, "b.ndjson"), ndjson(all[200:]))
	cfg := config(filepath.Join(dir, "*"))
	cfg.Rollups, cfg.Runs = append(someWindows()[:1], someIncreases()[0], someIncreases()[3]), filepath.Join(t.TempDir(), "runs")
	if _, _, err := d.run(t, cfg, nil); err != nil {
		t.Fatal(err)
	}
	want := d.contents(t)
	if want["windows"] == "" {
		t.Fatal("got no windows: the test proves nothing")
	}
	const each = 12 // the calls of both files
	for n, skip := int64(1), int64(0); ; n += 1 + skip {
		if n > each {
			skip = rand.Int64N(5)
		}
		d.empty(t)
		cfg.Job = fmt.Sprint("job", n) // the tables remember tokens over a TRUNCATE
		ended := false
		for _, after := range []bool{false, true} {
			_, _, err := d.run(t, cfg, func(s backfill.Store) backfill.Store {
				b := &broken{Store: s, after: after}
				b.left.Store(n)
				return b
			})
			if err != nil && !errors.Is(err, errBroken) {
				t.Fatal(err)
			}
			ended = ended || err != nil
		}
		if _, _, err := d.run(t, cfg, nil); err != nil {
			t.Fatal(err)
		}
		if same(t, d.contents(t), want); t.Failed() {
			t.Fatalf("broken at call %d", n)
		}
		if !ended { // there were fewer calls
			if n < 25 {
				t.Errorf("got a job of fewer than %d calls, want more: the test proves little", n)
			}
			return
		}
	}
}

func TestBackfillSurvivesKill(t *testing.T) {
	if testing.Short() {
		t.Skip("starts many processes")
	}
	all := someMetrics(24_000)
	d := newDatabase(t)
	dir := t.TempDir()
	for i := range 6 {
		write(t, filepath.Join(dir, fmt.Sprintf("%d.ndjson", i)), ndjson(all[i*4_000:(i+1)*4_000]))
	}
	pattern, runs := filepath.Join(dir, "*"), filepath.Join(t.TempDir(), "runs")
	whole, cfg := newDatabase(t), config(pattern)
	cfg.Runs, cfg.Rollups = filepath.Join(t.TempDir(), "runs"), slices.Concat(someWindows(), someIncreases())
	began := time.Now()
	if _, _, err := whole.run(t, cfg, nil); err != nil {
		t.Fatal(err)
	}
	takes := time.Since(began)
	kills := 0
	for attempt := 0; ; attempt++ {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), envLoad+"="+pattern, envAddr+"="+d.server.HTTPAddr, envRuns+"="+runs)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var killed atomic.Bool
		timer := time.AfterFunc(rand.N(takes/6), func() { killed.Store(true); _ = cmd.Process.Kill() })
		if attempt == 20 {
			timer.Stop()
		}
		err := cmd.Wait()
		timer.Stop()
		if err == nil {
			break
		}
		if !killed.Load() {
			t.Fatal(err)
		}
		kills++
	}
	t.Logf("%d kills of a job that takes %s", kills, takes)
	if kills == 0 {
		t.Fatal("got no kill: the test proves nothing")
	}
	same(t, d.contents(t), whole.contents(t))
}

func TestRejects(t *testing.T) {
	d := newDatabase(t)
	path := filepath.Join(t.TempDir(), "a.ndjson")
	old := time.Now().Add(-500 * 24 * time.Hour).UTC().Format(time.RFC3339)
	recent := time.Now().Add(-40 * 24 * time.Hour).UTC().Format(time.RFC3339)
	write(t, path, []byte(strings.Join([]string{
		`{"tenant":"acme","time":"` + recent + `","name":"m","value":1}`,
		``,
		`{"tenant":"acme","name":"m","value":1}`,
		`{"tenant":"acme","time":"` + old + `","name":"m","value":1}`,
		`{"tenant":"acme","time":"` + recent + `","name":"m","val`,
		`{"time":"` + recent + `","name":"m","value":1}`,
	}, "\n")))
	cfg := config(path)
	sum, out, err := d.run(t, cfg, nil)
	if err != nil || sum.Rows != 5 || sum.Events != 1 || sum.Rejected != 4 {
		t.Fatalf("got %+v, %v", sum, err)
	}
	for i, want := range []struct {
		row    int64
		reason events.Reason
	}{{3, events.ReasonMissing}, {4, events.ReasonTooOld}, {5, events.ReasonBadJSON}, {6, events.ReasonTenantMissing}} {
		r := out.rejects[i]
		if r.Row != want.row || r.Reason != string(want.reason) || r.File != path || r.Original == "" || r.Detail == "" {
			t.Errorf("reject %d: got %+v, want row %d, %s", i, r, want.row, want.reason)
		}
	}
	if got := out.rejects[3].Detail; !strings.Contains(got, "-tenant") {
		t.Errorf("no tenant: got %q, want what to do about a file", got)
	}
	if got := d.ask(t, "SELECT sum(count) FROM vigie.rollups_1h"); got != "1\n" {
		t.Errorf("rollups_1h: got %s, want 1 event of 40 days ago", got)
	}
	if sum, _, err = d.run(t, cfg, nil); err != nil || sum.Before != 4 || sum.Rejected != 0 {
		t.Errorf("second run: got %+v, %v, want 4 rejects of before", sum, err)
	}
}

// A chunk whose tokens may be forgotten is neither loaded twice nor left out in silence.
func TestInDoubt(t *testing.T) {
	d := newDatabase(t)
	path := filepath.Join(t.TempDir(), "a.ndjson")
	write(t, path, ndjson(someMetrics(100)))
	cfg := config(path)
	stop := func(s backfill.Store) backfill.Store {
		b := &broken{Store: s, after: true}
		b.left.Store(5) // file, chunk, its hours, series, rollups
		return b
	}
	if _, _, err := d.run(t, cfg, stop); !errors.Is(err, errBroken) {
		t.Fatalf("got %v, want a break after the last insert", err)
	}
	late := func(s backfill.Store) backfill.Store { return &advanced{s} }
	if _, _, err := d.run(t, cfg, late); !errors.Is(err, backfill.ErrInDoubt) ||
		!strings.Contains(err.Error(), "rows 1 to 100 ") {
		t.Fatalf("got %v, want ErrInDoubt of rows 1 to 100", err)
	}
	cfg.InDoubt = "skip"
	if _, _, err := d.run(t, cfg, late); err != nil {
		t.Fatal(err)
	}
	if got := d.ask(t, "SELECT sum(count) FROM vigie.rollups_10s"); got != "100\n" {
		t.Errorf("got %s events, want 100", got)
	}
}

// advanced is a store into which much has been inserted since.
type advanced struct{ backfill.Store }

func (a *advanced) Mark(ctx context.Context) (uint64, error) {
	mark, err := a.Store.Mark(ctx)
	return mark + 60_000, err
}

// Declared rollups of panes are filled as the stream fills them.
func TestDeclaredRollups(t *testing.T) {
	all := someMetrics(5_000)
	panes := rollup.Declared{Name: "by_service", From: events.Metrics, Where: `name == "m1"`, By: []string{"service"}}
	stream, loaded := newDatabase(t), newDatabase(t)
	stream.stream(t, all, panes)
	want := stream.contents(t)
	if !strings.Contains(want["rollups_10s"], "by_service") {
		t.Fatal("the stream has made no rows of the rollup: the test proves nothing")
	}
	path := filepath.Join(t.TempDir(), "a.ndjson")
	write(t, path, ndjson(all))
	cfg := config(path)
	cfg.Rollups = []rollup.Declared{panes, {Name: "of_logs", From: events.Logs}}
	if _, _, err := loaded.run(t, cfg, nil); err != nil {
		t.Fatal(err)
	}
	same(t, loaded.contents(t), want)
	// What was added to is noted, hour by hour, that of a rollup too.
	unnoted := "SELECT count() FROM vigie.rollups_1h AS r WHERE NOT EXISTS (SELECT 1 FROM vigie.backfilled AS b WHERE b.tenant = r.tenant AND b.metric = r.metric AND b.from * 3600 <= toUnixTimestamp(r.ts) AND b.to * 3600 > toUnixTimestamp(r.ts))"
	if n := loaded.ask(t, unnoted); n != "0\n" {
		t.Errorf("got %s rows of hours that nothing was noted of, want none", n)
	}
	added, err := clickhouse.NewBackfill(loaded.Client).Added(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	row := strings.Fields(loaded.ask(t, "SELECT tenant, min(toUnixTimestamp(ts)), max(toUnixTimestamp(ts)) FROM vigie.rollups_10s WHERE metric = 'by_service' GROUP BY tenant LIMIT 1"))
	first, _ := strconv.ParseInt(row[1], 10, 64)
	last, _ := strconv.ParseInt(row[2], 10, 64)
	if !added(row[0], "by_service", first) || !added(row[0], "by_service", last) || added(row[0], "by_service", first-3600) ||
		added(row[0], "by_service", last+3600) || added("other", "by_service", first) {
		t.Errorf("got other hours than those from %d to %d", first, last)
	}
}

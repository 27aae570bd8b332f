package clickhouse_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/rollup"
	"github.com/vigie-io/vigie/internal/pipeline/verify"
	"github.com/vigie-io/vigie/internal/pipeline/windowed"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
)

// logged is a topic whose records have all been processed.
type logged [][]pipeline.Record

func (l logged) Span(context.Context, time.Time) (verify.Span, error) {
	s := verify.Span{From: verify.Offsets{}, To: verify.Offsets{}}
	for p := range l {
		s.From[int32(p)], s.To[int32(p)] = 0, int64(len(l[p]))
	}
	return s, nil
}

func (logged) Settle(context.Context, verify.Offsets) error { return nil }

func (l logged) Records(_ context.Context, from, to verify.Offsets, fn func(int32, *pipeline.Record) error) error {
	for p := range l {
		for i := from[int32(p)]; i < to[int32(p)]; i++ {
			if err := fn(int32(p), &l[p][i]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (logged) Refusals(context.Context, time.Time, func(verify.Refusal) error) error { return nil }

// Windows of every kind and late policy, as workers write them, are what the recount says, and what is changed or lost
// is not.
func TestVerifyWindows(t *testing.T) {
	server, client := migrated(t, nil)
	at := int64(today(t, server))
	keep := &windowed.Keep{First: true, Last: true, Distinct: "user", Top: &windowed.Top{Of: "user", K: 3, Counters: 5}}
	cfg := pipeline.DefaultConfig()
	for i, w := range []windowed.Window{
		{Tumbling: 30 * time.Second, AllowedLateness: time.Hour},
		{Hopping: &windowed.Hopping{Size: 50 * time.Second, Every: 20 * time.Second}, AllowedLateness: time.Hour, Late: "merge"},
		{Calendar: &windowed.Calendar{Unit: "day", Zone: "America/New_York"}, Late: "divert"},
		{Session: &windowed.Session{Gap: 9 * time.Second, By: []string{"user"}}, AllowedLateness: time.Hour},
		{Tumbling: 20 * time.Second, Late: "divert"},
	} {
		cfg.Rollups = append(cfg.Rollups,
			rollup.Declared{Name: fmt.Sprint("w", i), From: events.Metrics, By: []string{"service"}, Window: &w, Keep: keep})
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(2, 3))
	log := make(logged, 2)
	for p := range log {
		part := pipeline.Partition{Topic: "t", Partition: int32(p)}
		task := pipeline.NewTask(pipeline.TaskConfig{Partition: part, Signal: events.Metrics, Config: cfg})
		for i := range 300 {
			r := pipeline.Record{Offset: int64(i), Timestamp: (at + int64(i)) * 1e9, Key: []byte("acme"), Value: fmt.Appendf(nil,
				`{"time":%d,"name":"m","value":%v,"labels":{"service":"s%d","user":"u%d"}}`, (at+int64(i)-int64(random.IntN(10)*random.IntN(10)))*1000, float64(random.IntN(64))/8, random.IntN(3), random.IntN(12))}
			log[p] = append(log[p], r)
			task.Step(&pipeline.Chunk{Partition: part, Signal: events.Metrics, Records: []pipeline.Record{r}}, (at+int64(i))*1000)
			if random.IntN(3) > 0 && i < 299 {
				continue
			}
			out := pipeline.NewOutputs(&cfg)
			task.Drain(out, (at+int64(i))*1000)
			task.Committed(true)
			for n, b := range out.Windows.Blocks {
				insertWindows(t, client, fmt.Sprint("verify/", p, "/", i, "/", n), b)
			}
		}
	}
	check := func(want int) (sum verify.Summary) {
		t.Helper()
		var found []verify.Difference
		sum, err := verify.RunWindows(t.Context(), verify.Config{
			Signal: events.Metrics, Topic: "t", Memory: 64 << 20, MaxPast: cfg.MaxPast, MaxFuture: cfg.MaxFuture,
			WatermarkDelay: cfg.WatermarkDelay,
			MaxTenants:     cfg.MaxTenants, Rollups: cfg.Rollups, SeriesIdle: cfg.SeriesIdle,
			IdleAfter: cfg.IdleAfter, Now: time.Unix(at+300, 0),
			Limits: func(tenants.ID) tenants.Limits { return tenants.DefaultConfig().Defaults },
		}, log, clickhouse.NewStore(client), func(d verify.Difference) { found = append(found, d) })
		if err != nil {
			t.Fatal(err)
		}
		if len(found) != want {
			t.Errorf("got differences %v of %+v, want %d", found[:min(6, len(found))], sum, want)
		}
		return sum
	}
	sum := check(0)
	if late := ask(t, server, "SELECT countIf(kind = 1) > 0, countIf(kind = 2) > 0, countIf(kind = 4) > 0, countIf(version > 1) > 0 FROM vigie.windows"); strings.ContainsRune(late, '0') || sum.Rows < 300 || sum.Incomparable > 0 {
		t.Errorf("got rows retracted, added, diverted, corrected: %s, and %+v; want some of each, and all comparable", late, sum)
	}
	ask(t, server, "OPTIMIZE TABLE vigie.windows FINAL")
	check(0)
	for i, change := range []string{"count + 1 AS count", "sum + 1 AS sum", "(first.1, first.2 + 1) AS first",
		"(top.1, top.2, top.3, top.4, top.5 + 1, top.6) AS top", "1 AS kind"} {
		ask(t, server, fmt.Sprintf("INSERT INTO vigie.windows SELECT * REPLACE(%s, version + 1 AS version) FROM "+
			"(SELECT * FROM vigie.windows FINAL WHERE kind = 0 AND metric = 'w0' ORDER BY series_id, start, part LIMIT 1 OFFSET %d)", change, i))
		check(i + 1)
	}
}

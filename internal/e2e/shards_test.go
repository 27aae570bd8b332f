package e2e

import (
	"bytes"
	"context"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/ingest"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
	"github.com/vigie-io/vigie/pkg/sketches"
)

// partitions are tasks behind a gateway, in memory: what ingest publishes is stepped by the task of its key's
// partition.
type partitions struct {
	t     *testing.T
	mu    sync.Mutex
	tasks [8]*pipeline.Task
	taken [8]int // records
	rows  map[rowKey]*rowState
	now   time.Time
}

type rowKey struct {
	grain                   pipeline.Grain
	tenant, metric, service string
	id                      series.ID
	pane                    uint32
}

// rowState is what ClickHouse makes of a row's parts.
type rowState struct {
	count    uint64
	sum      float64
	min, max float64
	time     int64
	last     float64
	sketch   sketches.Sketch
}

func (p *partitions) Publish(_ context.Context, records []ingest.Record) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range records {
		h := fnv.New32a()
		_, _ = h.Write(r.Key)
		i := h.Sum32() % uint32(len(p.tasks))
		record := pipeline.Record{Timestamp: p.now.UnixNano(), Key: r.Key, Value: r.Value}
		for _, header := range r.Headers {
			record.Headers = append(record.Headers, pipeline.Header{Key: header.Key, Value: header.Value})
		}
		p.tasks[i].Step(&pipeline.Chunk{Signal: events.Metrics, Records: []pipeline.Record{record}}, p.now.UnixMilli())
		p.taken[i]++
	}
	return nil
}

// drain ends an epoch of every task, and merges the blocks as the store does.
func (p *partitions) drain() {
	cfg := pipeline.DefaultConfig()
	for _, task := range p.tasks {
		out := pipeline.NewOutputs(&cfg)
		task.Drain(out, p.now.UnixMilli())
		task.Committed(true)
		if len(out.Letters) > 0 || len(out.Tally.Dropped) > 0 {
			p.t.Fatalf("got %d dead letters, dropped %v", len(out.Letters), out.Tally.Dropped)
		}
		for _, rows := range out.Rollups {
			block, err := clickhouse.Encoder{}.EncodeRollups(nil, rows)
			if err != nil {
				p.t.Fatal(err)
			}
			if rows, err = (clickhouse.Decoder{}).DecodeRollups(block); err != nil {
				p.t.Fatal(err)
			}
			p.merge(rows)
		}
	}
}

func (p *partitions) merge(r *pipeline.Rollups) {
	rest := r.Sketch
	for i := range r.Grain {
		var sketch sketches.Sketch
		n, err := sketch.DecodeDD(rest)
		if err != nil {
			p.t.Fatal(err)
		}
		rest = rest[n:]
		key := rowKey{r.Grain[i], r.Tenant[i], r.Metric[i], r.Service[i], r.Series[i], r.Pane[i]}
		s := p.rows[key]
		if s == nil {
			s = &rowState{min: r.Min[i], max: r.Max[i]}
			p.rows[key] = s
		}
		s.count, s.sum = s.count+r.Count[i], s.sum+r.Sum[i]
		s.min, s.max = min(s.min, r.Min[i]), max(s.max, r.Max[i])
		if r.LastTime[i] > s.time || r.LastTime[i] == s.time && r.Last[i] > s.last {
			s.time, s.last = r.LastTime[i], r.Last[i]
		}
		s.sketch.Merge(&sketch)
	}
}

// sent posts the same requests whatever the shards, which change before every request, and returns what is stored.
func sent(t *testing.T, shards ...int) *partitions {
	t.Helper()
	limits := func(n int) tenants.Config {
		config := tenants.DefaultConfig()
		config.Overrides = map[tenants.ID]tenants.Limits{"acme": {Shards: n}}
		return config
	}
	live := tenants.NewLive(limits(1))
	p := &partitions{t: t, rows: map[rowKey]*rowState{}, now: time.Now().Truncate(time.Minute)}
	for i := range p.tasks {
		p.tasks[i] = pipeline.NewTask(pipeline.TaskConfig{Partition: pipeline.Partition{Topic: "t", Partition: int32(i)}, Signal: events.Metrics, Config: pipeline.DefaultConfig(), Limits: live.Config})
	}
	server, err := ingest.New(ingest.Options{
		Config: ingest.DefaultConfig(), Publisher: p, Limits: live.For, Now: func() time.Time { return p.now },
		Authenticate: func(r *http.Request) (tenants.ID, error) { return tenants.ID(r.Header.Get("X-Tenant")), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 60 {
		live.Replace(limits(shards[i*len(shards)/60]))
		for _, tenant := range []string{"acme", "globex"} {
			var body bytes.Buffer
			for range 200 {
				kind := []string{"observation", "delta", "gauge"}[random.IntN(3)]
				fmt.Fprintf(&body, `{"time":%d,"name":"m_%s","kind":%q,"value":%d,"labels":{"service":"s%d","pod":"p%d"}}`+"\n",
					p.now.Add(-time.Duration(random.IntN(30_000))*time.Millisecond).UnixMilli(), kind, kind, random.IntN(1000), random.IntN(3), random.IntN(40))
			}
			request := httptest.NewRequest(http.MethodPost, "/v1/events/metrics", &body)
			request.Header.Set("Content-Type", "application/json")
			request.Header.Set("X-Tenant", tenant)
			answer := httptest.NewRecorder()
			if server.ServeHTTP(answer, request); answer.Code != http.StatusOK {
				t.Fatalf("got %d %s", answer.Code, answer.Body)
			}
		}
		if i%7 == 0 {
			p.drain()
		}
	}
	p.drain()
	return p
}

// TestShardsChange spreads a tenant over more and fewer keys while it sends: what is stored is, series by series and
// pane by pane, sketches included, what one key stores.
func TestShardsChange(t *testing.T) {
	plain := sent(t, 1)
	f := func(spread int, shards ...int) {
		t.Helper()
		got := sent(t, shards...)
		busy := 0
		for i := range got.taken {
			if got.taken[i] > 0 {
				busy++
			}
		}
		if busy < spread {
			t.Errorf("shards %v: got records in %d partitions, want %d or more", shards, busy, spread)
		}
		if !maps.EqualFunc(got.rows, plain.rows, func(a, b *rowState) bool {
			return reflect.DeepEqual(a.sketch.AppendDD(nil), b.sketch.AppendDD(nil)) && a.count == b.count && a.sum == b.sum &&
				a.min == b.min && a.max == b.max && a.time == b.time && a.last == b.last
		}) {
			t.Errorf("shards %v: %d rows differ from the %d of one shard", shards, len(got.rows), len(plain.rows))
		}
	}
	f(1, 1)
	f(3, 8)
	f(3, 1, 8, 1)
	f(3, 2, 3, 5, 64, 1, 7)
}

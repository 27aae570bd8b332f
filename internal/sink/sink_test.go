package sink_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/vigie-io/vigie/internal/pause"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/sink"
)

// source is a results topic in memory. Poll returns batch records of each partition that is not held.
type source struct {
	batch int

	mu        sync.Mutex
	log       map[int32][]sink.Record
	next      map[int32]int64
	held      map[int32]bool
	lost      []int32
	committed map[int32]int64
	fails     error         // of Commit
	takes     time.Duration // Commit, unless its context ends before
	holds     int
}

func newSource(records ...sink.Record) *source {
	s := &source{batch: 1 << 20, log: map[int32][]sink.Record{}, next: map[int32]int64{},
		held: map[int32]bool{}, committed: map[int32]int64{}}
	for _, r := range records {
		r.Offset = int64(len(s.log[r.Partition])) * 2 // offsets have gaps
		s.log[r.Partition] = append(s.log[r.Partition], r)
	}
	return s
}

func (s *source) Poll(ctx context.Context) (sink.Fetch, error) {
	if fetch := s.take(); len(fetch.Records)+len(fetch.Lost) > 0 {
		return fetch, nil
	}
	<-ctx.Done()
	return sink.Fetch{}, nil
}

func (s *source) take() sink.Fetch {
	s.mu.Lock()
	defer s.mu.Unlock()
	fetch := sink.Fetch{Lost: s.lost, Ends: map[int32]int64{}}
	s.lost = nil
	for _, partition := range slices.Sorted(maps.Keys(s.log)) {
		fetch.Ends[partition] = 2 * int64(len(s.log[partition]))
		for n := 0; n < s.batch && !s.held[partition]; n++ {
			i := slices.IndexFunc(s.log[partition], func(r sink.Record) bool { return r.Offset >= s.next[partition] })
			if i < 0 {
				break
			}
			record := s.log[partition][i]
			fetch.Records = append(fetch.Records, record)
			s.next[partition] = record.Offset + 1
		}
	}
	return fetch
}

func (s *source) Hold(partition int32, held bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[partition] = held
	if held {
		s.holds++
	}
}

func (s *source) Commit(ctx context.Context, next map[int32]int64) error {
	if s.takes > 0 {
		if err := pause.For(ctx, s.takes); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fails != nil {
		return s.fails
	}
	maps.Copy(s.committed, next)
	return nil
}

// lose takes a partition away and gives it back at its committed offset.
func (s *source) lose(partition int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost = append(s.lost, partition)
	s.next[partition] = s.committed[partition]
}

func (s *source) committedAt(partition int32) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.committed[partition]
}

// table is ClickHouse as the sink sees it: what was stored, once a token.
type table struct {
	before func(token string, try int) error // an error before anything is stored
	after  func(token string, try int) error // an error although it was stored

	mu      sync.Mutex
	tries   map[string]int
	stored  map[string]string
	order   map[byte][]string // by first byte of the block, its partition
	running int
	most    int
	takes   time.Duration
	givesUp bool // with its context, before it has stored anything
}

func newTable() *table {
	return &table{tries: map[string]int{}, stored: map[string]string{}, order: map[byte][]string{}}
}

func (c *table) Insert(ctx context.Context, _, token string, _ int, block []byte) error {
	c.mu.Lock()
	c.tries[token]++
	try := c.tries[token]
	c.running++
	c.most = max(c.most, c.running)
	c.mu.Unlock()
	defer func() { c.mu.Lock(); c.running--; c.mu.Unlock() }()
	switch {
	case c.givesUp:
		if err := pause.For(ctx, c.takes); err != nil {
			return err
		}
	case c.takes > 0:
		time.Sleep(c.takes)
	}
	if c.before != nil {
		if err := c.before(token, try); err != nil {
			return err
		}
	}
	c.mu.Lock()
	if _, ok := c.stored[token]; !ok {
		c.stored[token] = string(block)
		c.order[block[0]] = append(c.order[block[0]], string(block))
	}
	c.mu.Unlock()
	if c.after != nil {
		return c.after(token, try)
	}
	return ctx.Err()
}

func (c *table) blocks() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Values(c.stored))
}

// lot keeps what was parked.
type lot struct {
	mu     sync.Mutex
	fails  int
	parked []string
	causes []error
}

func (l *lot) Park(_ context.Context, record sink.Record, _ string, cause error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fails > 0 {
		l.fails--
		return errors.New("kafka is away")
	}
	l.parked, l.causes = append(l.parked, string(record.Value)), append(l.causes, cause)
	return nil
}

// record is a good one of a partition; its value begins with the partition's letter.
func record(partition int32, value string) sink.Record {
	return sink.Record{
		Topic: "results", TopicID: [16]byte{1}, Partition: partition, Time: time.Now(),
		Value: []byte(string(rune('a'+partition)) + value),
		Headers: []sink.Header{{Key: sink.HeaderTable, Value: []byte("ingest_rollups")},
			{Key: sink.HeaderFormat, Value: []byte(sink.FormatNative)}, {Key: sink.HeaderRows, Value: []byte("1")}},
	}
}

func records(partitions, each int) (out []sink.Record) {
	for i := range each {
		for p := range partitions {
			out = append(out, record(int32(p), fmt.Sprintf("%04d", i)))
		}
	}
	return out
}

func values(records []sink.Record) (out []string) {
	for _, r := range records {
		out = append(out, string(r.Value))
	}
	slices.Sort(out)
	return out
}

// fixture is a sink that runs.
type fixture struct {
	cfg    sink.Config
	source *source
	table  *table
	lot    *lot
	reg    *prometheus.Registry
	sink   *sink.Sink // once it runs
	resume func(topic string, partition int32, next int64) error
	virgin map[int32]bool
	doubts atomic.Int64
	logs   bytes.Buffer // to be read when the sink has ended
}

func newFixture(records ...sink.Record) *fixture {
	return &fixture{cfg: sink.DefaultConfig(), source: newSource(records...), table: newTable(), lot: &lot{},
		reg: prometheus.NewRegistry()}
}

// run starts the sink; the returned function ends it.
func (f *fixture) run(t *testing.T) (stop func()) {
	t.Helper()
	s := sink.New("results", f.cfg, f.source, f.table, f.lot, sink.NewMetrics(f.reg), slog.New(slog.NewTextHandler(&f.logs, nil)))
	f.sink = s
	if f.resume != nil {
		s.BeforeResuming(func(_ context.Context, topic string, partition int32, next int64) (bool, error) {
			return f.virgin[partition], f.resume(topic, partition, next)
		})
	}
	s.OnDoubt(func() { f.doubts.Add(1) })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: got %v, want nil", err)
		}
	}
}

func (f *fixture) metric(t *testing.T, name string) float64 {
	t.Helper()
	families, err := f.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, family := range families {
		if family.GetName() == name {
			for _, m := range family.GetMetric() {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

func equal[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// pass lets so much time pass, and what it starts come to rest.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestEachPartitionInOrderAndSeveralAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := records(6, 50)
		f := newFixture(all...)
		f.table.takes, f.source.batch = time.Millisecond, 7
		stop := f.run(t)
		pass(5 * time.Second)
		stop()
		equal(t, "stored", f.table.blocks(), values(all))
		for partition, order := range f.table.order {
			if !slices.IsSorted(order) {
				t.Errorf("partition %c: got %v, want it in order", partition, order)
			}
		}
		equal(t, "inserts at once", f.table.most, f.cfg.Parallel)
		equal(t, "committed", f.source.committedAt(5), 99)
		equal(t, "rows", f.metric(t, "vigie_sink_rows_total"), 300.0)
	})
}

// Nothing is committed, dropped or taken in without bound while nothing can be stored; and all of it comes after.
func TestServerDownForTenMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all []sink.Record
		for i := range 40 {
			r := record(int32(i%2), fmt.Sprintf("%04d", i))
			r.Value = append(r.Value, make([]byte, 256<<10)...)
			all = append(all, r)
		}
		f := newFixture(all...)
		f.cfg.Buffer, f.source.batch = 2<<20, 1
		start := time.Now()
		f.table.before = func(string, int) error {
			if time.Since(start) < 10*time.Minute {
				return errors.New("connection refused")
			}
			return nil
		}
		stop := f.run(t)
		pass(9 * time.Minute)
		equal(t, "committed while down", f.source.committed, map[int32]int64{})
		equal(t, "stalled partitions", f.metric(t, "vigie_sink_stalled_partitions"), 2.0)
		lanes := f.sink.Topology()
		if len(lanes) != 2 || lanes[1].Partition != 1 || lanes[1].Error != "connection refused" || lanes[1].Lag == 0 ||
			lanes[1].Tried < 50 || !lanes[1].LastInsert.IsZero() {
			t.Errorf("lanes: got %+v, want two that wait", lanes)
		}
		if got := f.sink.Waiting(); got < 8*time.Minute+58*time.Second || got > 9*time.Minute {
			t.Errorf("waiting: got %s, want nine minutes", got)
		}
		if got := f.metric(t, "vigie_sink_buffered_bytes"); got > 3<<20 {
			t.Errorf("buffered: got %v bytes, want at most the buffer and one fetch", got)
		}
		pass(2 * time.Minute)
		equal(t, "stored", len(f.table.blocks()), 40)
		equal(t, "stalled partitions", f.metric(t, "vigie_sink_stalled_partitions"), 0.0)
		lanes = f.sink.Topology()
		if lanes[0].Error != "" || lanes[0].Blocks != 20 || lanes[0].LastTable != "ingest_rollups" ||
			lanes[0].LastInsert.Before(start.Add(10*time.Minute)) {
			t.Errorf("lanes: got %+v, want them to have stored everything", lanes)
		}
		equal(t, "waiting", f.sink.Waiting(), time.Duration(0))
		equal(t, "lag", f.metric(t, "vigie_sink_lag_records"), 2.0) // a gap behind the last record of each
		stop()
		equal(t, "committed", f.source.committedAt(1), 39)
		equal(t, "buffered", f.metric(t, "vigie_sink_buffered_bytes"), 0.0)
		if f.source.holds == 0 || f.source.held[0] || f.source.held[1] {
			t.Errorf("held: got %d times and %v at the end, want some and none", f.source.holds, f.source.held)
		}
	})
}

// An answer that got lost: the block is stored, and stored again under the same token.
func TestErrorAfterInsertKeepsTheToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := records(3, 20)
		f := newFixture(all...)
		f.table.after = func(_ string, try int) error {
			if try == 1 {
				return errors.New("unexpected EOF")
			}
			return nil
		}
		stop := f.run(t)
		pass(time.Minute)
		stop()
		equal(t, "stored", f.table.blocks(), values(all))
		equal(t, "tries", f.table.tries[(&sink.Record{TopicID: [16]byte{1}, Partition: 2, Offset: 38}).Token("ingest_rollups")], 2)
	})
}

func TestRefusedBlockIsParkedAndTheRestGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(records(2, 10)...)
		poison := f.source.log[1][4]
		f.lot.fails = 3
		f.table.before = func(token string, _ int) error {
			if token == poison.Token("ingest_rollups") {
				return fmt.Errorf("code 117: %w", sink.ErrRefused)
			}
			return nil
		}
		stop := f.run(t)
		pass(time.Minute)
		stop()
		equal(t, "stored", len(f.table.blocks()), 19)
		equal(t, "parked", f.lot.parked, []string{string(poison.Value)})
		equal(t, "tries of a refused block", f.table.tries[poison.Token("ingest_rollups")], 1)
		equal(t, "committed", f.source.committedAt(1), 19)
		equal(t, "parked count", f.metric(t, "vigie_sink_parked_total"), 1.0)
		if got := f.metric(t, "vigie_sink_parked_last_timestamp_seconds"); got == 0 {
			t.Errorf("time of parking: got 0, want it set")
		}
	})
}

func TestMalformedRecordIsParked(t *testing.T) {
	f := func(change func(*sink.Record)) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			bad := record(0, "bad")
			change(&bad)
			fx := newFixture(bad, record(0, "good"))
			stop := fx.run(t)
			pass(time.Second)
			stop()
			equal(t, "stored", fx.table.blocks(), []string{"agood"})
			equal(t, "parked", len(fx.lot.parked), 1)
			if !errors.Is(fx.lot.causes[0], sink.ErrMalformed) {
				t.Errorf("cause: got %v, want ErrMalformed", fx.lot.causes[0])
			}
			equal(t, "committed", fx.source.committedAt(0), 3)
		})
	}
	f(func(r *sink.Record) { r.Headers = nil })
	f(func(r *sink.Record) { r.Headers[0].Value = []byte("x; DROP TABLE y") })
	f(func(r *sink.Record) { r.Headers[1].Value = []byte("native/2") })
	f(func(r *sink.Record) { r.Headers[2].Value = []byte("-1") })
	f(func(r *sink.Record) { r.Value = nil })
}

// A server that refuses everything is broken itself: after the limit nothing more is parked, and when it is
// repaired what waited is stored.
func TestServerThatRefusesEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(records(2, 50)...)
		start := time.Now()
		f.table.before = func(string, int) error {
			if time.Since(start) < time.Minute {
				return fmt.Errorf("code 16: no such column: %w", sink.ErrRefused)
			}
			return nil
		}
		stop := f.run(t)
		pass(30 * time.Second)
		equal(t, "parked", len(f.lot.parked), f.cfg.ParkLimit)
		equal(t, "refusing", f.metric(t, "vigie_sink_refusing"), 1.0)
		pass(time.Minute)
		stop()
		equal(t, "stored", len(f.table.blocks()), 100-f.cfg.ParkLimit)
		equal(t, "refusing", f.metric(t, "vigie_sink_refusing"), 0.0)
	})
}

// A partition that goes and comes back begins at its committed offset; what was queued is forgotten, nothing is
// left out.
// A partition that may not be resumed waits, alone, and goes on once it may; where an insert is in doubt is told.
func TestPartitionThatMayNotBeResumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := records(2, 3)
		f := newFixture(all...)
		var refusal atomic.Pointer[error]
		cause := errors.New("set back too far")
		refusal.Store(&cause)
		var asked atomic.Int64
		f.resume = func(topic string, partition int32, next int64) error {
			if topic != "AQAAAAAAAAAAAAAAAAAAAA" || next != 0 {
				t.Errorf("asked of topic %q from %d, want the id and the first offset", topic, next)
			}
			if err := refusal.Load(); partition == 1 && err != nil {
				asked.Add(1)
				return *err
			}
			return nil
		}
		stop := f.run(t)
		pass(time.Minute)
		equal(t, "stored", len(f.table.blocks()), 3)
		equal(t, "stalled", f.metric(t, "vigie_sink_stalled_partitions"), 1.0)
		equal(t, "committed", f.source.committedAt(1), int64(0))
		lanes := f.sink.Topology()
		if !lanes[0].Resumed || lanes[1].Resumed || lanes[1].Error != cause.Error() || asked.Load() < 2 {
			t.Errorf("got %+v after %d questions, want partition 1 to wait", lanes, asked.Load())
		}
		refusal.Store(nil)
		pass(time.Minute)
		equal(t, "stored", f.table.blocks(), values(all))
		equal(t, "stalled", f.metric(t, "vigie_sink_stalled_partitions"), 0.0)
		stop()
	})
}

// What somebody may have inserted of before is in doubt, and so is an insert that did not succeed; nothing else is.
func TestDoubts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(records(3, 2)...)
		f.resume = func(string, int32, int64) error { return nil }
		f.virgin = map[int32]bool{0: true, 1: true}
		stop := f.run(t)
		pass(time.Minute)
		equal(t, "stored", len(f.table.blocks()), 6)
		equal(t, "doubts", f.doubts.Load(), int64(1))
		stop()
	})
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(records(1, 2)...)
		f.resume, f.virgin = func(string, int32, int64) error { return nil }, map[int32]bool{0: true}
		f.table.after = func(_ string, try int) error {
			if try == 1 {
				return errors.New("the connection ended")
			}
			return nil
		}
		stop := f.run(t)
		pass(time.Minute)
		equal(t, "stored", len(f.table.blocks()), 2)
		equal(t, "doubts", f.doubts.Load(), int64(2))
		stop()
	})
}

// The memory of each record is given back once, after it was stored.
func TestRecordsAreFreed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := records(2, 5)
		freed := make([]atomic.Int64, len(all))
		f := newFixture()
		for i := range all {
			all[i].Free = func() {
				if freed[i].Add(1); !slices.Contains(f.table.blocks(), string(all[i].Value)) {
					t.Errorf("record %d was freed before it was stored", i)
				}
			}
		}
		f.source = newSource(all...)
		f.table.before = func(_ string, try int) error {
			if try == 1 {
				return errors.New("away")
			}
			return nil
		}
		stop := f.run(t)
		pass(time.Minute)
		for i := range freed {
			equal(t, "freed", freed[i].Load(), int64(1))
		}
		stop()
	})
}

func TestLostPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := records(2, 300)
		f := newFixture(all...)
		f.source.batch, f.table.takes = 11, time.Millisecond
		stop := f.run(t)
		for range 40 {
			pass(13 * time.Millisecond)
			f.source.lose(1)
		}
		pass(10 * time.Second)
		stop()
		equal(t, "stored", f.table.blocks(), values(all))
		equal(t, "committed", f.source.committedAt(1), 599)
	})
}

func TestCommitThatFailsIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(records(1, 5)...)
		f.source.fails = errors.New("rebalance in progress")
		stop := f.run(t)
		pass(10 * time.Second)
		f.source.mu.Lock()
		f.source.fails = nil
		f.source.mu.Unlock()
		pass(2 * time.Second)
		equal(t, "committed", f.source.committedAt(0), 9)
		stop()
	})
}

// What was being committed when the process is told to end is committed at the end, and nobody is warned of it.
func TestEndDuringACommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(records(1, 5)...)
		f.source.takes = time.Second
		stop := f.run(t)
		pass(f.cfg.CommitInterval + f.source.takes/2)
		stop()
		equal(t, "committed", f.source.committedAt(0), 9)
		equal(t, "log", f.logs.String(), "")
	})
}

// An insert that is under way at the end is finished, if it does not take long, and no other is begun.
func TestEndDuringAnInsert(t *testing.T) {
	for _, c := range []struct {
		takes, wait time.Duration // of an insert; of the end for it
		stored      int
	}{{3 * time.Second, 2 * time.Second, 1}, {time.Minute, 5 * time.Second, 0}} {
		synctest.Test(t, func(t *testing.T) {
			f := newFixture(records(1, 5)...)
			f.table.takes, f.table.givesUp = c.takes, true
			stop := f.run(t)
			pass(time.Second)
			began := time.Now()
			stop()
			equal(t, "wait", time.Since(began), c.wait)
			equal(t, "stored", len(f.table.blocks()), c.stored)
			equal(t, "begun", len(f.table.tries), 1)
			equal(t, "committed", f.source.committedAt(0), int64(c.stored))
		})
	}
}

func TestFreshnessSaysSinceWhen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		event := record(0, "x")
		event.Headers = append(event.Headers,
			sink.Header{Key: sink.HeaderNewest, Value: strconv.AppendInt(nil, time.Now().Add(-5*time.Second).UnixMilli(), 10)})
		f := newFixture(event, record(0, "y"))
		stop := f.run(t)
		pass(time.Second)
		stop()
		if got := testutil.CollectAndCount(f.reg, "vigie_sink_freshness_seconds"); got != 2 {
			t.Errorf("freshness series: got %d, want one since the event and one since the epoch", got)
		}
	})
}

// What a server had dropped before it is watched is not this process's, and a restart of the server begins at zero.
func TestDuplicatesByServer(t *testing.T) {
	f := newFixture()
	m := sink.NewMetrics(f.reg)
	for _, n := range []uint64{100, 100, 112, 4, 6} {
		m.Duplicates("a:8123", n)
	}
	m.Duplicates("b:8123", 7)
	m.Duplicates("b:8123", 8)
	equal(t, "deduplicated", m.Deduplicated(), 12+4+2+1)
	equal(t, "metric", f.metric(t, "vigie_sink_deduplicated_blocks_total"), 19.0)
}

func TestToken(t *testing.T) {
	r := sink.Record{TopicID: [16]byte{0xfb, 0xef, 0xff, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13},
		Partition: 3, Offset: 12345678901}
	equal(t, "token", r.Token("ingest_series"), "--__AQIDBAUGBwgJCgsMDQ/3/12345678901/ingest_series")
}

// The sink reads the headers that the pipeline writes; engines do not import each other.
func TestHeadersAreThePipelines(t *testing.T) {
	equal(t, "headers", []string{sink.HeaderTable, sink.HeaderFormat, sink.HeaderRows},
		[]string{pipeline.HeaderTable, pipeline.HeaderFormat, pipeline.HeaderRows})
}

func TestConfig(t *testing.T) {
	good := sink.DefaultConfig()
	if err := good.Validate(); err != nil {
		t.Fatalf("default: got %v, want it valid", err)
	}
	f := func(change func(*sink.Config)) {
		t.Helper()
		cfg := sink.DefaultConfig()
		if change(&cfg); cfg.Validate() == nil {
			t.Errorf("%+v: got it valid, want an error", cfg)
		}
	}
	f(func(c *sink.Config) { c.Parallel = 0 })
	f(func(c *sink.Config) { c.Buffer = 1 })
	f(func(c *sink.Config) { c.CommitInterval = 0 })
	f(func(c *sink.Config) { c.RetryMin = 0 })
	f(func(c *sink.Config) { c.RetryMax = 1 })
	f(func(c *sink.Config) { c.ParkLimit = 0 })
}

// What it takes to store an epoch is the time of its inserts, however many; that of the slowest lane. One pause of the server
// does not change it, nor do epochs without results, nor tries that do not succeed.
func TestStoring(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		marker := func(partition int32) sink.Record {
			return sink.Record{Partition: partition, Marker: true, TopicID: [16]byte{1}}
		}
		var all []sink.Record
		for i := range 9 {
			for b := range 3 {
				all = append(all, record(0, fmt.Sprint("epoch ", i, " block ", b)))
			}
			all = append(all, marker(0), marker(0))
		}
		all = append(all, record(1, "fast"), marker(1))
		f := newFixture(all...)
		f.source.batch = 1
		f.table.takes = 100 * time.Millisecond
		f.table.before = func(token string, try int) error {
			switch {
			case strings.HasSuffix(token, "/0/60/ingest_rollups"): // in the seventh of nine
				time.Sleep(time.Minute)
			case strings.HasSuffix(token, "/0/70/ingest_rollups") && try < 3:
				time.Sleep(time.Minute)
				return errors.New("connection refused")
			}
			return nil
		}
		stop := f.run(t)
		defer stop()
		equal(t, "before the first", f.sink.Storing(), time.Duration(0))
		pass(10 * time.Minute)
		equal(t, "stored", len(f.table.blocks()), 28)
		equal(t, "storing", f.sink.Storing(), 300*time.Millisecond)
	})
}

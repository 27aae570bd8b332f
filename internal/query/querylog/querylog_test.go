package querylog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// table is a Store that remembers tokens, as ClickHouse does. It fails as long as fail says.
type table struct {
	mu     sync.Mutex
	tokens map[string]int
	texts  []string
	fail   func() error
	block  chan struct{} // when not nil, inserts wait for it
}

func (s *table) InsertQueries(ctx context.Context, token string, entries []Entry) error {
	if s.block != nil {
		select {
		case <-s.block:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tokens == nil {
		s.tokens = map[string]int{}
	}
	if s.tokens[token]++; s.tokens[token] == 1 {
		for _, e := range entries {
			s.texts = append(s.texts, e.Text)
		}
	}
	if s.fail != nil {
		return s.fail() // also when it was stored: an answer may be lost
	}
	return nil
}

func small(queue int) Config {
	return Config{Enabled: true, Every: 100 * time.Millisecond, Queue: queue, MaxText: 64}
}

func newLog(t *testing.T, cfg Config, store Store) *Log {
	t.Helper()
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	return New(cfg, store, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
}

// What is added is written once, in order, whether attempts fail, are stored and not heard of, or the process ends.
func TestEveryEntryIsWrittenOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failures := 1
		store := &table{fail: func() error {
			if failures--; failures >= 0 {
				return errors.New("gone")
			}
			return nil
		}}
		l := newLog(t, small(5000), store)
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = l.Run(ctx) })
		const n = 2500
		var want []string
		for i := range n {
			want = append(want, fmt.Sprint(i))
			l.Add(Entry{Text: fmt.Sprint(i)})
		}
		for testutil.ToFloat64(l.failed) == 0 {
			time.Sleep(time.Millisecond)
		}
		synctest.Wait() // it waits to try again
		stop()
		running.Wait()
		if got := strings.Join(store.texts, " "); got != strings.Join(want, " ") {
			t.Errorf("got %d entries, want %d in order, each once", len(store.texts), n)
		}
		if got := testutil.ToFloat64(l.written) + testutil.ToFloat64(l.lost.WithLabelValues(lostEnd)); got != n {
			t.Errorf("written and lost: got %v, want %d", got, n)
		}
	})
}

// A database that does not answer holds no query up: what does not fit is lost and counted, what fits is written later.
func TestAddNeverBlocks(t *testing.T) {
	store := &table{block: make(chan struct{})}
	l := newLog(t, small(10), store)
	for i := range 25 {
		l.Add(Entry{Text: fmt.Sprint(i)})
	}
	if got := testutil.ToFloat64(l.lost.WithLabelValues(lostFull)); got != 15 {
		t.Errorf("lost: got %v, want 15", got)
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = l.Run(ctx) })
	close(store.block)
	stop()
	running.Wait()
	if len(store.texts) != 10 || testutil.ToFloat64(l.written) != 10 {
		t.Errorf("got %q and %v written, want the first ten", store.texts, testutil.ToFloat64(l.written))
	}
}

// A process that ends while the database is away does not wait for it batch by batch.
func TestEndIsBounded(t *testing.T) {
	attempts := 0
	store := &table{fail: func() error { attempts++; return errors.New("gone") }}
	l := newLog(t, small(5000), store)
	for range 4500 {
		l.Add(Entry{})
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	_ = l.Run(ctx)
	if attempts != 1 {
		t.Errorf("got %d attempts, want one", attempts)
	}
	if got := testutil.ToFloat64(l.lost.WithLabelValues(lostEnd)); got != 4500 {
		t.Errorf("lost: got %v, want all 4500", got)
	}
}

func TestNoLog(t *testing.T) {
	cfg := small(1)
	cfg.Enabled = false
	l := New(cfg, nil, nil, nil)
	if l != nil {
		t.Fatal("got a log, want none")
	}
	l.Add(Entry{})
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := l.Run(ctx); err != nil {
		t.Error(err)
	}
}

func TestReadOf(t *testing.T) {
	f := func(summary string, want Read) {
		t.Helper()
		if got := ReadOf(http.Header{"X-Clickhouse-Summary": {summary}}); got != want {
			t.Errorf("%s: got %+v, want %+v", summary, got, want)
		}
	}
	// As the server sends them: at the end, and when an answer begins.
	f(`{"read_rows":"3000000","read_bytes":"24000000","written_rows":"0","total_rows_to_read":"3000000","result_rows":"1"}`, Read{3e6, 24e6})
	f(`{"read_rows":"65409","read_bytes":"523272","total_rows_to_read":"3000000","result_rows":"0","elapsed_ns":"3822416"}`, Read{3e6, 24e6})
	f(`{"read_rows":"5","read_bytes":"50","total_rows_to_read":"900","result_rows":"5"}`, Read{5, 50}) // a LIMIT
	f(`{"read_rows":7,"read_bytes":70}`, Read{7, 70})
	f(`{"read_rows":"0","read_bytes":"0","total_rows_to_read":"10"}`, Read{})
	f(`{"read_rows":"-1","read_bytes":"x"}`, Read{})
	f(``, Read{})
}

func TestConfig(t *testing.T) {
	cfg := DefaultConfig()
	if err := cfg.Validate(); err != nil {
		t.Errorf("default: %v", err)
	}
	cfg = Config{MaxText: 2 << 20}
	err := cfg.Validate()
	for _, name := range []string{"every", "queue", "max_text"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want %s in it", err, name)
		}
	}
}

func BenchmarkAdd(b *testing.B) {
	l := New(Config{Enabled: true, Every: time.Second, Queue: 1, MaxText: 8 << 10}, nil, nil, nil)
	e := Entry{Text: "sum by (service) (rate(http_requests_total{job=\"shop\"}[5m]))"}
	b.ReportAllocs()
	for b.Loop() {
		l.Add(e)
	}
}

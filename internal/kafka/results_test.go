package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/kafka"
	"github.com/vigie-io/vigie/internal/sink"
	"github.com/vigie-io/vigie/internal/testkit"
)

// store is a table that keeps a block once per token, as ClickHouse does, and fails in every way now and then.
type store struct {
	mu       sync.Mutex
	blocks   map[string]string
	order    map[string][]int // partition → numbers in the order of their first storing
	repeated int
	down     atomic.Bool
}

func (s *store) Insert(ctx context.Context, _, token string, _ int, block []byte) error {
	if s.down.Load() || rand.IntN(20) == 0 {
		return errors.New("connection refused")
	}
	value := string(block)
	if strings.HasPrefix(value, "poison") {
		return fmt.Errorf("code 117: %w", sink.ErrRefused)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if have, ok := s.blocks[token]; ok {
		s.repeated++
		if have != value {
			panic("token " + token + " for two blocks")
		}
	} else {
		s.blocks[token] = value
		partition, number, _ := strings.Cut(value, ":")
		n, _ := strconv.Atoi(number)
		s.order[partition] = append(s.order[partition], n)
	}
	if rand.IntN(20) == 0 {
		return errors.New("answer lost")
	}
	return nil
}

func (s *store) size() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.blocks)
}

func resultHeaders() []kgo.RecordHeader {
	return []kgo.RecordHeader{{Key: sink.HeaderTable, Value: []byte("ingest_rollups")},
		{Key: sink.HeaderFormat, Value: []byte(sink.FormatNative)}, {Key: sink.HeaderRows, Value: []byte("1")}}
}

// sinkOn runs a sink until the returned function ends it, as kill -9 would if hard.
func sinkOn(t *testing.T, cfg kafka.Config, member int, into *store, parker sink.Parker) (stop func(hard bool)) {
	t.Helper()
	source, err := kafka.NewResults(cfg, member, quiet())
	if err != nil {
		t.Fatalf("results: %v", err)
	}
	options := sink.DefaultConfig()
	options.CommitInterval, options.RetryMin, options.RetryMax = 20*time.Millisecond, time.Millisecond, 10*time.Millisecond
	s := sink.New("results", options, source, into, parker, sink.NewMetrics(prometheus.NewRegistry()), quiet())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return func(hard bool) {
		if hard {
			source.Close() // what it wants to commit after this is lost
		}
		cancel()
		if err := <-done; err != nil && !errors.Is(err, kgo.ErrClientClosed) {
			t.Errorf("sink: %v", err)
		}
		source.Close()
	}
}

// Results of committed transactions only reach the store, once, in order, while sinks come, go and die, the store
// fails, and some blocks are refused.
func testResults(t *testing.T, cfg kafka.Config) {
	const epochs = 150
	into := &store{blocks: map[string]string{}, order: map[string][]int{}}
	parker := newProducer(t, cfg)
	stops := map[int]func(bool){0: sinkOn(t, cfg, 0, into, parker)}

	producer := client(t, cfg, kgo.TransactionalID(cfg.TransactionalIDPrefix+"-results"))
	want, poison := 0, 0
	for epoch := range epochs {
		if err := producer.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		aborts := epoch%7 == 3
		for partition := range int32(4) {
			value := fmt.Sprintf("%d:%d", partition, epoch)
			switch {
			case aborts:
				value = "ghost"
			case epoch%50 == 10 && partition == 2:
				value = "poison"
				poison++
			default:
				want++
			}
			producer.Produce(deadline(t), &kgo.Record{Topic: cfg.Topics.Results.Name, Partition: partition, Value: []byte(value), Headers: resultHeaders()}, nil)
		}
		if err := producer.Flush(deadline(t)); err != nil {
			t.Fatal(err)
		}
		if err := producer.EndTransaction(deadline(t), kgo.TransactionEndTry(!aborts)); err != nil {
			t.Fatal(err)
		}
		into.down.Store(epoch%40 > 30)
		if epoch%15 == 14 { // one sink goes, or comes back
			member := rand.IntN(2)
			if stop := stops[member]; stop != nil && len(stops) > 1 {
				stop(rand.IntN(2) == 0)
				delete(stops, member)
			} else if stop == nil {
				stops[member] = sinkOn(t, cfg, member, into, parker)
			}
		}
	}
	into.down.Store(false)
	for member := range 2 {
		if stops[member] == nil {
			stops[member] = sinkOn(t, cfg, member, into, parker)
		}
	}
	await(t, "all blocks", func() bool { return into.size() >= want })
	var parked []*kgo.Record
	await(t, "parked blocks", func() bool { parked = committed(t, cfg, cfg.Topics.Parked.Name); return len(parked) >= poison })
	for _, stop := range stops {
		stop(false)
	}
	distinct := map[string]bool{}
	for _, r := range parked {
		distinct[string(r.Key)] = string(r.Value) == "poison"
	}
	if len(distinct) != poison || !distinct[string(parked[0].Key)] {
		t.Errorf("parked: got %v, want %d blocks", slices.Sorted(maps.Keys(distinct)), poison)
	}
	if got := into.size(); got != want {
		t.Errorf("stored: got %d blocks, want %d", got, want)
	}
	for partition, order := range into.order {
		if !slices.IsSorted(order) {
			t.Errorf("partition %s: got %v, want them in order", partition, order)
		}
	}
	t.Logf("%d blocks stored, %d of them sent again", want, into.repeated)
}

func TestResultsOnKfake(t *testing.T) {
	_, cfg := fake(t)
	testResults(t, cfg)
}

func TestResultsOnApacheKafka(t *testing.T) {
	broker := testkit.ApacheKafka(t)
	leaks(t)
	testResults(t, install(t, strings.Split(broker.Addr, ",")...))
}

func TestResultsSayWhatTheTokenNeeds(t *testing.T) {
	_, cfg := fake(t)
	states := ensure(t, cfg)
	id := states[slices.IndexFunc(states, func(s kafka.TopicState) bool { return s.Name == cfg.Topics.Results.Name })].ID
	produceRecords(t, cfg, &kgo.Record{Topic: cfg.Topics.Results.Name, Partition: 3, Key: []byte("k"), Value: []byte("v"), Headers: resultHeaders()})
	source, err := kafka.NewResults(cfg, 0, quiet())
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	var fetch sink.Fetch
	await(t, "a record", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		fetch, err = source.Poll(ctx)
		return err != nil || len(fetch.Records) > 0
	})
	if err != nil {
		t.Fatalf("poll: %v", err)
	}
	r := fetch.Records[0]
	if r.TopicID != id || id == [16]byte{} || r.Partition != 3 || r.Offset != 0 || string(r.Value) != "v" ||
		len(r.Headers) != 3 || time.Since(r.Time) > time.Minute {
		t.Errorf("record: got %+v, want it with topic id %x", r, id)
	}
	if got := fetch.Ends[3]; got != 1 {
		t.Errorf("end: got %d, want 1", got)
	}
}

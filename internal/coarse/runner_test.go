package coarse_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vigie-io/vigie/internal/coarse"
	"github.com/vigie-io/vigie/internal/pipeline"
)

// plainCodec writes rows as JSON.
type plainCodec struct{}

func (plainCodec) ReadRollups(block []byte, rows *coarse.Rows) error {
	*rows = coarse.Rows{}
	return json.Unmarshal(block, rows)
}
func (plainCodec) DecodeProgress(block []byte) (*pipeline.ProgressRows, error) {
	return decodeJSON[pipeline.ProgressRows](block)
}
func (plainCodec) EncodeRollups(dst []byte, rows *pipeline.Rollups) ([]byte, error) {
	return encodeJSON(dst, rows)
}
func (plainCodec) EncodeProgress(dst []byte, rows *pipeline.ProgressRows) ([]byte, error) {
	return encodeJSON(dst, rows)
}
func (plainCodec) EncodeMerged(dst []byte, at coarse.Position) ([]byte, error) {
	return encodeJSON(dst, at)
}

func decodeJSON[T any](block []byte) (*T, error) {
	v := new(T)
	return v, json.Unmarshal(block, v)
}

func encodeJSON(dst []byte, v any) ([]byte, error) {
	text, err := json.Marshal(v)
	return append(dst, text...), err
}

const results = 3 // partitions

// world is the results topic, what is merged of it, and the wider tiers that a sink fills from that in order.
type world struct {
	mu        sync.Mutex
	log       [results][]coarse.Record
	owner     [results]int // of the shard: an older one is fenced
	positions [results]int64
	merged    [results][]coarse.Block
	stored    [results]int // of merged

	counts   map[string]uint64 // by source: rows in the tier
	tier     map[string]int64  // by source: greatest time in coarse progress
	appended map[string][]int64
	reached  map[int32]int64
	wrong    error
	random   *rand.Rand
}

func newWorld(seed uint64) *world {
	return &world{counts: map[string]uint64{}, tier: map[string]int64{}, appended: map[string][]int64{}, reached: map[int32]int64{},
		random: rand.New(rand.NewPCG(seed, 1))}
}

// epoch appends a row of a source and how far the source is, as a worker's epoch does, to any partition.
func (w *world) epoch(at int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p, source := w.random.IntN(results), fmt.Sprint("s", w.random.IntN(4))
	w.appended[source] = append(w.appended[source], at)
	w.append(p, pipeline.TablePanes, rollups(oneRow{tenant: "a", metric: source, start: uint32(at), count: 1}))
	if w.random.IntN(3) > 0 {
		w.append(p, pipeline.TableProgress, &pipeline.ProgressRows{Tenant: []string{""}, Topic: []string{source}, Partition: []int32{0}, Time: []int64{at},
			Updated: []int64{at}})
	}
}

func (w *world) append(p int, table string, rows any) {
	text, err := json.Marshal(rows)
	w.wrong = errors.Join(w.wrong, err)
	w.log[p] = append(w.log[p], coarse.Record{Offset: int64(len(w.log[p])), Table: table, Value: text})
}

// store stores the next merged record of a partition, and checks what it says.
func (w *world) store(p int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stored[p] == len(w.merged[p]) {
		return
	}
	b := w.merged[p][w.stored[p]]
	w.stored[p]++
	switch b.Table {
	case coarse.TableMinutes:
		rows, err := decodeJSON[pipeline.Rollups](b.Value)
		w.wrong = errors.Join(w.wrong, err)
		for i := range rows.Grain {
			w.counts[rows.Metric[i]] += rows.Count[i]
		}
	case coarse.TableMerged:
		at, err := decodeJSON[coarse.Position](b.Value)
		w.wrong = errors.Join(w.wrong, err)
		w.reached[at.Partition] = max(w.reached[at.Partition], at.Next)
	case coarse.TableProgress:
		rows, err := decodeJSON[pipeline.ProgressRows](b.Value)
		w.wrong = errors.Join(w.wrong, err)
		for i, source := range rows.Topic {
			w.tier[source] = max(w.tier[source], rows.Time[i])
			told := uint64(0)
			for _, at := range w.appended[source] {
				if at <= rows.Time[i] {
					told++
				}
			}
			if w.counts[source] < told {
				w.wrong = errors.Join(w.wrong, fmt.Errorf("progress of %s up to %d: the tier has %d of %d rows", source, rows.Time[i], w.counts[source], told))
			}
		}
	}
}

// shard is one opening of a partition.
type shard struct {
	*world
	partition, number int
	next              int
}

func (w *world) open(partition int) (*shard, coarse.Position) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.owner[partition]++
	s := &shard{w, partition, w.owner[partition], int(w.positions[partition])}
	return s, coarse.Position{Topic: "t", Partition: int32(partition), Next: int64(s.next)}
}

var errFenced = errors.New("fenced")

func (s *shard) Poll(ctx context.Context) (coarse.Fetch, error) {
	for ctx.Err() == nil {
		s.mu.Lock()
		n := min(len(s.log[s.partition])-s.next, 3)
		records := s.log[s.partition][s.next : s.next+n]
		s.next += n
		end := int64(len(s.log[s.partition]))
		s.mu.Unlock()
		if n > 0 {
			return coarse.Fetch{Records: records, Next: int64(s.next), End: end}, nil
		}
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Millisecond):
		}
	}
	return coarse.Fetch{Next: int64(s.next)}, nil
}

func (s *shard) Ends(context.Context) (map[int32]int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ends := map[int32]int64{}
	for p := range s.log {
		ends[int32(p)] = int64(len(s.log[p]))
	}
	return ends, nil
}

// Commit fails now and then, before or after it has been decided.
func (s *shard) Commit(_ context.Context, blocks []coarse.Block, next int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	fault := s.random.IntN(12)
	if s.owner[s.partition] != s.number || fault == 0 {
		return errFenced
	}
	for _, b := range blocks {
		b.Value = append([]byte(nil), b.Value...)
		s.merged[s.partition] = append(s.merged[s.partition], b)
	}
	if next >= 0 {
		s.positions[s.partition] = next
	}
	if fault == 1 {
		return errFenced
	}
	return nil
}

// Every row is in one merged row, once, and progress never speaks of rows that the tier has not: with commits that fail
// before and after they are decided, two that think they have a partition, and a sink that is late.
func TestRunnersMergeOnce(t *testing.T) {
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(seed)
			ctx, stop := context.WithCancel(t.Context())
			runner := coarse.NewRunner(coarse.Config{Interval: 2 * time.Second, Memory: 20 << 10}, plainCodec{}, plainCodec{},
				func(context.Context, string) (map[int32]int64, error) {
					w.mu.Lock()
					defer w.mu.Unlock()
					if w.random.IntN(10) == 0 {
						return nil, errors.New("ClickHouse is away")
					}
					reached := map[int32]int64{}
					for p, next := range w.reached {
						reached[p] = next
					}
					return reached, nil
				}, coarse.NewMetrics(prometheus.NewRegistry()), slog.New(slog.DiscardHandler))
			var lanes sync.WaitGroup
			for member := range 2 * results {
				lanes.Go(func() {
					for ctx.Err() == nil {
						// Each has the partition for some seconds, and the other may still believe to have it.
						time.Sleep(time.Duration(member) * time.Second)
						s, at := w.open(member % results)
						turn, cancel := context.WithTimeout(ctx, 9*time.Second)
						_ = runner.Run(turn, s, at)
						cancel()
					}
				})
			}
			for p := range results {
				lanes.Go(func() {
					for ctx.Err() == nil {
						time.Sleep(50 * time.Millisecond)
						if p > 0 || time.Now().Second()%20 > 10 { // one sink stands still for a while
							w.store(p)
						}
					}
				})
			}
			for at := range int64(300) {
				time.Sleep(100 * time.Millisecond)
				w.epoch(at)
			}
			time.Sleep(2 * time.Minute)
			stop()
			lanes.Wait()
			if w.wrong != nil {
				t.Fatal(w.wrong)
			}
			for source, at := range w.appended {
				if w.counts[source] != uint64(len(at)) {
					t.Errorf("seed %d: source %s: got %d rows, want %d", seed, source, w.counts[source], len(at))
				}
			}
			if len(w.tier) == 0 {
				t.Errorf("seed %d: no progress was published", seed)
			}
		})
	}
}

package simulation

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"sync"
	"time"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/pause"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/sink"
)

var _ sink.Inserter = (*Warehouse)(nil)

// Warehouse is a ClickHouse that counts: events by tenant, each token once, inserts and parts by second, and how far
// readers are told that results reach.
type Warehouse struct {
	mu       sync.Mutex
	tokens   map[string]bool
	counted  map[string]uint64 // events by tenant
	progress map[string]int64  // Unix milliseconds by partition of the source
	seconds  map[int64]*Second
	decoder  clickhouse.Decoder
}

// Second is what came within one.
type Second struct{ Inserts, Parts, Rows, Again int }

func newWarehouse() *Warehouse {
	return &Warehouse{tokens: map[string]bool{}, counted: map[string]uint64{}, progress: map[string]int64{},
		seconds: map[int64]*Second{}}
}

// Insert implements sink.Inserter. What has come is stored, whether or not its client is there to hear of it.
func (w *Warehouse) Insert(ctx context.Context, table, token string, rows int, block []byte) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := w.store(table, token, rows, block); err != nil {
		return err
	}
	return pause.For(ctx, insertTakes)
}

func (w *Warehouse) store(table, token string, rows int, block []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	second := w.seconds[time.Now().Unix()]
	if second == nil {
		second = new(Second)
		w.seconds[time.Now().Unix()] = second
	}
	second.Inserts++
	if w.tokens[table+token] {
		second.Again++
		return nil
	}
	w.tokens[table+token] = true
	second.Rows += rows
	second.Parts++
	switch table {
	case pipeline.TableRollups, pipeline.TablePanes:
		b, err := w.decoder.DecodeRollups(block)
		if err != nil {
			return fmt.Errorf("decode rollups: %w", err)
		}
		second.Parts += 2*len(filledBy(table)) - 1
		for i, grain := range b.Grain {
			if grain == pipeline.GrainSeries {
				w.counted[b.Tenant[i]] += b.Count[i]
			}
		}
	case pipeline.TableProgress:
		b, err := w.decoder.DecodeProgress(block)
		if err != nil {
			return fmt.Errorf("decode progress: %w", err)
		}
		for i, tenant := range b.Tenant {
			if at := b.Topic[i] + "/" + strconv.Itoa(int(b.Partition[i])); tenant == "" {
				w.progress[at] = max(w.progress[at], b.Time[i])
			}
		}
	}
	return nil
}

// Counted is the number of events by tenant.
func (w *Warehouse) Counted() map[string]uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.counted)
}

// Behind says how old the newest results are of the partition of a topic that is farthest behind, and whether anything
// has been told of each of its partitions.
func (w *Warehouse) Behind(topic string, partitions int32) (worst time.Duration, told bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	told = true
	for p := range partitions {
		at, ok := w.progress[topic+"/"+strconv.Itoa(int(p))]
		if told = told && ok; ok {
			worst = max(worst, time.Since(time.UnixMilli(at)))
		}
	}
	return worst, told
}

// Between adds up what came from a time on, to before another.
func (w *Warehouse) Between(from, to time.Time) (sum Second) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for at := from.Unix(); at < to.Unix(); at++ {
		if s := w.seconds[at]; s != nil {
			sum.Inserts, sum.Parts, sum.Rows, sum.Again = sum.Inserts+s.Inserts, sum.Parts+
				s.Parts, sum.Rows+s.Rows, sum.Again+s.Again
		}
	}
	return sum
}

// rowsOf counts the rows of result messages.
func rowsOf(messages []pipeline.Message) (rows int) {
	for i := range messages {
		for _, h := range messages[i].Headers {
			if h.Key == pipeline.HeaderRows {
				n, _ := strconv.Atoi(string(h.Value))
				rows += n
			}
		}
	}
	return rows
}

package simulation

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/coarse"
	"github.com/vigie-io/vigie/internal/pause"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/sink"
)

var _ sink.Inserter = (*Warehouse)(nil)

// Warehouse is a ClickHouse that counts: events by tenant, each token once, inserts, parts and rows by second, and how
// far readers are told that results reach.
type Warehouse struct {
	mu      sync.Mutex
	tokens  map[string]bool
	finest  reached // the tier of 10 s
	wider   reached // those of a minute and an hour
	merged  mergedUpTo
	seconds map[int64]*Second
	decoder clickhouse.Decoder
}

// reached is what one or more tiers hold, and are told to hold.
type reached struct {
	counted  map[string]uint64 // events by tenant
	progress map[string]int64  // Unix milliseconds by partition of the source
}

// Second is what came within one. Rows are those of the finest tier, Merged those of the wider ones.
type Second struct{ Inserts, Parts, Rows, Merged, Again int }

func newWarehouse() *Warehouse {
	nothing := func() reached { return reached{map[string]uint64{}, map[string]int64{}} }
	return &Warehouse{tokens: map[string]bool{}, finest: nothing(), wider: nothing(), merged: mergedUpTo{},
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
	second.Parts += max(1, 2*len(filledBy(table))) // tables of series and of services in each tier
	switch table {
	case pipeline.TablePanes, pipeline.TableRollups, coarse.TableMinutes:
		return w.storeRollups(second, filledBy(table), rows, block)
	case pipeline.TableProgress:
		return w.finest.report(&w.decoder, block)
	case coarse.TableProgress:
		return w.wider.report(&w.decoder, block)
	case coarse.TableMerged:
		at, err := w.decoder.DecodeMerged(block)
		if err != nil {
			return fmt.Errorf("decode what is merged: %w", err)
		}
		w.merged.raise(at)
	}
	return nil
}

func (w *Warehouse) storeRollups(second *Second, tiers []int, rows int, block []byte) error {
	b, err := w.decoder.DecodeRollups(block)
	if err != nil {
		return fmt.Errorf("decode rollups: %w", err)
	}
	if slices.Contains(tiers, 0) {
		second.Rows += rows
		w.finest.count(b)
	}
	if slices.Contains(tiers, 1) {
		second.Merged += rows
		w.wider.count(b)
	}
	return nil
}

func (r *reached) count(b *pipeline.Rollups) {
	for i, grain := range b.Grain {
		if grain == pipeline.GrainSeries {
			r.counted[b.Tenant[i]] += b.Count[i]
		}
	}
}

func (r *reached) report(decoder *clickhouse.Decoder, block []byte) error {
	b, err := decoder.DecodeProgress(block)
	if err != nil {
		return fmt.Errorf("decode progress: %w", err)
	}
	for i, tenant := range b.Tenant {
		if at := b.Topic[i] + "/" + strconv.Itoa(int(b.Partition[i])); tenant == "" {
			r.progress[at] = max(r.progress[at], b.Time[i])
		}
	}
	return nil
}

// Merged implements coarse.Reached.
func (w *Warehouse) Merged(_ context.Context, topic string) (map[int32]int64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.merged.of(topic), nil
}

// Counted is the number of events by tenant, in the finest tier and in the wider ones.
func (w *Warehouse) Counted() (finest, wider map[string]uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.finest.counted), maps.Clone(w.wider.counted)
}

// Behind says how old the newest results are of the partition of a topic that is farthest behind, and whether anything
// has been told of each of its partitions.
func (w *Warehouse) Behind(topic string, partitions int32) (worst time.Duration, told bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.finest.behind(topic, partitions)
}

// WiderBehind is Behind for the wider tiers.
func (w *Warehouse) WiderBehind(topic string, partitions int32) (worst time.Duration, told bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.wider.behind(topic, partitions)
}

func (r *reached) behind(topic string, partitions int32) (worst time.Duration, told bool) {
	told = true
	for p := range partitions {
		at, ok := r.progress[topic+"/"+strconv.Itoa(int(p))]
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
			sum.Inserts, sum.Parts, sum.Again = sum.Inserts+s.Inserts, sum.Parts+s.Parts, sum.Again+s.Again
			sum.Rows, sum.Merged = sum.Rows+s.Rows, sum.Merged+s.Merged
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

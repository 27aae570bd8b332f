package pipeline

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
)

// unknown is a stream of records whose events are mostly of series that are new, or spelled in a new way, alone or many
// in a record; the same new series may come several times in one run.
func unknown(r *rand.Rand, now time.Time) (records []Record) {
	for i := range 200 {
		var value strings.Builder
		for range []int{1, 1, 1, 1 + r.IntN(5), 30 + r.IntN(50)}[r.IntN(5)] {
			at := now.Add(-time.Duration(r.IntN(60)) * time.Second)
			if r.IntN(30) == 0 {
				at = at.Add(time.Hour)
			}
			kind := []string{"observation", "delta", "gauge"}[r.IntN(3)]
			fmt.Fprintf(&value, `{"x%d":1,"time":%d,"name":"m%d","kind":%q,"value":%v,"labels":{"n":"%d","service":"s%d"}}`+"\n",
				r.IntN(1e9), at.UnixNano(), r.IntN(2), kind, r.ExpFloat64(), r.IntN(300), r.IntN(3))
		}
		records = append(records, Record{
			Offset: int64(i), Timestamp: now.UnixNano(), Key: []byte([]string{"acme", "acme#1", "demo"}[r.IntN(3)]), Value: []byte(value.String()),
		})
	}
	return records
}

// That series are searched for before the events of a run, or of a record, are taken changes nothing, while they come
// for the first time, have reached their limit, and are swept: a task that takes one metric after the other, without a
// search ahead, has the same rows.
func TestSearchingAheadChangesNothing(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 3))
		now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
		cfg, limits := DefaultConfig(), tenants.DefaultConfig()
		limits.Defaults.ActiveSeries = 100 + r.IntN(2000)
		task := TaskConfig{Partition: Partition{Topic: "t"}, Signal: events.Metrics, Config: cfg,
			Limits: func() *tenants.Config { return &limits }}
		ahead, plain, reader := NewTask(task), NewTask(task), NewReader(events.Metrics, nil)
		for epoch := range 8 {
			records := unknown(r, now)
			for from := 0; from < len(records); {
				n := min(1+r.IntN(100), len(records)-from)
				ahead.Step(&Chunk{Signal: events.Metrics, Records: records[from : from+n]}, now.UnixMilli())
				from += n
			}
			for i := range records {
				batch, _ := reader.Read(&records[i])
				for j := range batch.Metrics {
					plain.StepMetric(&batch.Metrics[j], now.UnixMilli())
				}
			}
			a, b := NewOutputs(&cfg), NewOutputs(&cfg)
			ahead.Drain(a, now.UnixMilli())
			plain.Drain(b, now.UnixMilli())
			if len(b.Rollups) == 0 || !reflect.DeepEqual(a.Rollups, b.Rollups) || !reflect.DeepEqual(a.Series, b.Series) {
				t.Fatalf("seed %d, epoch %d: got %d rows, want %d, the same", seed, epoch, a.Rows(), b.Rows())
			}
			if !reflect.DeepEqual(a.Limits.Dropped, b.Limits.Dropped) || a.Tally.Events != b.Tally.Events {
				t.Fatalf("seed %d, epoch %d: got %d events, %v dropped, want %d, %v",
					seed, epoch, a.Tally.Events, a.Limits.Dropped, b.Tally.Events, b.Limits.Dropped)
			}
			ahead.Committed(true)
			plain.Committed(true)
			now = now.Add([]time.Duration{time.Second, time.Minute, time.Hour}[r.IntN(3)]) // some series are idle, and swept
		}
	}
}

package pipeline

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/vigie-io/vigie/pkg/events"
)

// repeating is a stream of records as several producers write them, whose events mostly repeat themselves but for time
// and value.
func repeating(r *rand.Rand, now time.Time) (records []Record) {
	for i := range 400 {
		at := now.Add(-time.Duration(r.IntN(60)) * time.Second).Format(time.RFC3339Nano)
		event := func() string {
			n, v := r.IntN(12), r.ExpFloat64()
			return [...]string{
				fmt.Sprintf(`{"time":%q,"name":"seconds","value":%v,"labels":{"n":"%d"}}`, at, v, n),
				fmt.Sprintf(`{"name": "seconds", "labels": {"n": "%d"}, "value": %v, "time": %q, "unit": "s"}`, n, v, at),
				fmt.Sprintf(`{"time":%q,"name":"level","kind":"gauge","value":%v,"labels":{"n":"%d"}}`, at, v, n),
				fmt.Sprintf(`{"time":%q,"name":"total","kind":"cumulative","start":%d,"value":%v}`, at, now.Unix()-100, v),
				fmt.Sprintf(`{"time":%q,"name":"amount","kind":"delta","value":%v,"labels":{"n":"%d"}}`, at, v, n),
				fmt.Sprintf(`{"time":%q,"name":"bad","value":"%v"}`, at, v),
				fmt.Sprintf(`{"time":%q,"name":"seconds","value":%v,"labels":{"n":"%d"}}`, now.Add(time.Hour).Format(time.RFC3339), v, n),
			}[min(r.IntN(12), 6)]
		}
		value := event()
		if r.IntN(3) == 0 {
			value = "[" + event() + "," + event() + "," + event() + "]"
		}
		records = append(records, Record{
			Offset: int64(i), Timestamp: now.UnixNano(), Key: []byte([]string{"acme", "acme#1", "demo"}[r.IntN(3)]), Value: []byte(value),
		})
	}
	return records
}

// What a task knows of events changes no output: not a bit of a sum, not a dead letter, not through aborts and sweeps. The
// task it is compared with is made to forget what it knows before every record.
func TestKnownEventsChangeNothing(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
		cfg := DefaultConfig()
		cfg.Rollups = []Rollup{{Name: "by_n", From: events.Metrics, Where: `unit == "s"`, By: []string{"n"}}}
		task := TaskConfig{Partition: Partition{Topic: "t"}, Signal: events.Metrics, Config: cfg}
		known, plain := NewTask(task), NewTask(task)
		for epoch := range 12 {
			records := repeating(r, now)
			for len(records) > 0 {
				n := min(1+r.IntN(100), len(records))
				known.Step(&Chunk{Signal: events.Metrics, Records: records[:n]}, now.UnixMilli())
				for i := range n {
					for _, tn := range plain.tenants {
						tn.repeats = events.NewRepeats(1, 1)
					}
					plain.Step(&Chunk{Signal: events.Metrics, Records: records[i : i+1]}, now.UnixMilli())
				}
				records = records[n:]
			}
			if r.IntN(4) == 0 {
				known.Forget()
				plain.Forget()
				continue
			}
			a, b := NewOutputs(&cfg), NewOutputs(&cfg)
			known.Drain(a, now.UnixMilli())
			plain.Drain(b, now.UnixMilli())
			if !reflect.DeepEqual(a.Rollups, b.Rollups) || !reflect.DeepEqual(a.Series, b.Series) || !reflect.DeepEqual(known.tally, plain.tally) || len(a.Letters) != len(b.Letters) {
				t.Fatalf("seed %d, epoch %d: outputs differ", seed, epoch)
			}
			for i := range a.Letters {
				if !bytes.Equal(a.Letters[i].Value, b.Letters[i].Value) {
					t.Fatalf("seed %d, epoch %d: dead letter %d differs", seed, epoch, i)
				}
			}
			known.Committed(false)
			plain.Committed(false)
			if r.IntN(3) == 0 {
				now = now.Add(time.Hour) // all series are idle, and swept with the next epoch
			}
			now = now.Add(time.Minute)
		}
		if got := known.tenants["acme"]; got != nil && got.repeats.Len() < 10 {
			t.Errorf("seed %d: hardly an event of tenant acme was learned", seed)
		}
	}
}

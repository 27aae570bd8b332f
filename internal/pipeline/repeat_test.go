package pipeline

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/pipeline/rollup"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
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
				fmt.Sprintf(`{"name":"seconds","value":%v,"labels":{"n":"%d"}}`, v, n),
				fmt.Sprintf(`{"time":%q,"name":"bad","value":"%v"}`, at, v),
				fmt.Sprintf(`{"time":%q,"name":"seconds","value":%v,"labels":{"n":"%d"}}`,
					now.Add(time.Hour).Format(time.RFC3339), v, n),
			}[min(r.IntN(14), 7)]
		}
		value := event()
		if r.IntN(3) == 0 {
			value = "[" + event() + "," + event() + "," + event() + "]"
		}
		switch r.IntN(10) {
		case 0, 1:
			value = string(totals(r, now))
		case 2, 3:
			value = string(levels(r, now))
		}
		records = append(records, Record{
			Offset: int64(i), Timestamp: now.UnixNano(),
			Key: []byte([]string{"acme", "acme#1", "demo"}[r.IntN(3)]), Value: []byte(value),
		})
	}
	return records
}

// unordered is a stream of records of which no two have the same bytes: their fields and labels come in any order, with
// fields that the contract does not know.
func unordered(r *rand.Rand, now time.Time, epoch int) (records []Record) {
	join := func(parts ...string) string {
		r.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
		return strings.Join(parts, ",")
	}
	for i := range 600 {
		at := now.Add(-time.Duration(r.IntN(90)) * time.Second)
		parts := []string{
			`"name":"seconds"`, fmt.Sprintf(`"value":%v`, r.ExpFloat64()), fmt.Sprintf(`"x":"%d/%d"`, epoch, i),
			fmt.Sprintf(`"labels":{%s}`, join(fmt.Sprintf(`"n":"%d"`, r.IntN(12)), `"a":"1"`, `"b":"2"`)),
		}
		for _, more := range []string{`"unit":"s"`, fmt.Sprintf(`"time":%q`, at.Format(time.RFC3339Nano)), `"kind":"gauge"`} {
			if r.IntN(8) > 0 {
				parts = append(parts, more)
			}
		}
		if r.IntN(20) == 0 {
			odd := []string{`"unit":"s"`, `"start":1`, `"name":"é"`, `"tenant":"demo"`, `"labels":{}`, `"y": 1`}
			parts = append(parts, odd[r.IntN(len(odd))])
		}
		records = append(records, Record{
			Offset: int64(i), Timestamp: now.UnixNano(), Key: []byte("acme"), Value: []byte("{" + join(parts...) + "}"),
		})
	}
	return records
}

// levels are events in protobuf, one or three, of which some are bad, or have no time.
func levels(r *rand.Rand, now time.Time) (value []byte) {
	for range []int{1, 1, 3}[r.IntN(3)] {
		m := events.Metric{
			Time: now.UnixNano() - r.Int64N(60e9), Name: "level", Kind: events.Gauge, Value: r.ExpFloat64(),
			Unit:   []string{"", "s"}[r.IntN(2)],
			Labels: series.Labels{{Name: "n", Value: fmt.Sprint(r.IntN(12))}},
		}
		switch r.IntN(20) {
		case 0:
			m.Value = math.NaN()
		case 1:
			m.Time = 0
		case 2:
			m.Time += 7200e9
		case 3:
			m.Start = now.UnixNano() - 100e9
		}
		value = events.AppendMetricProtobuf(value, &m)
	}
	return value
}

// totals are an OTLP request of running totals, of processes that began now and then.
func totals(r *rand.Rand, now time.Time) []byte {
	var sum []byte
	for range 1 + r.IntN(3) {
		point := binary.LittleEndian.AppendUint64([]byte{2<<3 | 1},
			uint64(now.Add(-time.Duration(1+r.IntN(3))*time.Minute).UnixNano()))
		point = binary.LittleEndian.AppendUint64(append(point, 3<<3|1), uint64(now.UnixNano()-r.Int64N(1e9)))
		point = binary.LittleEndian.AppendUint64(append(point, 6<<3|1), uint64(r.IntN(1000)))
		sum = field(sum, 1, field(point, 7, field(field(nil, 1, []byte("n")), 2, field(nil, 1, []byte{'0' + byte(r.IntN(4))}))))
	}
	metric := field(field(nil, 1, []byte("requests")), 7, append(sum, 2<<3, 2, 3<<3, 1))
	return field(nil, 1, field(nil, 2, field(nil, 2, metric)))
}

// What a task knows of events changes no output: not a bit of a sum, not a dead letter, not through aborts and sweeps.
// The task it is compared with is made to forget what it knows before every record.
func TestKnownEventsChangeNothing(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
		cfg := DefaultConfig()
		cfg.Rollups = []rollup.Declared{
			{Name: "by_n", From: events.Metrics, Where: `unit == "s"`, By: []string{"n"}},
			{Name: "grown", From: events.Metrics, Where: `name == "requests_total"`, Measure: "increase", By: []string{"n"}},
		}
		task := TaskConfig{Partition: Partition{Topic: "t"}, Signal: events.Metrics, Config: cfg}
		known, plain := NewTask(task), NewTask(task)
		inAnyOrder := seed%4 == 0
		for epoch := range 12 {
			records := repeating(r, now)
			if inAnyOrder {
				records = unordered(r, now, epoch)
			}
			for len(records) > 0 {
				n := min(1+r.IntN(100), len(records))
				stepBoth(known, plain, records[:n], now)
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
			if what := differs(a, b); what != "" {
				t.Fatalf("seed %d, epoch %d: %s differ", seed, epoch, what)
			}
			known.Committed(false)
			plain.Committed(false)
			if r.IntN(3) == 0 {
				now = now.Add(time.Hour) // all series are idle, and swept with the next epoch
			}
			now = now.Add(time.Minute)
		}
		if totals := known.tenants["acme"]; totals != nil && !inAnyOrder && !knowsTotals(known, totals, r, now) {
			t.Errorf("seed %d: totals with a start are not known", seed)
		}
		if got := known.tenants["acme"]; got != nil && got.repeats.Len() < 10 {
			t.Errorf("seed %d: hardly an event of tenant acme was learned", seed)
		}
	}
}

// Nor does it what a task knows of events beyond a tenant's limit of series, while limits change, series are forgotten,
// and others take their places.
func TestKnownBeyondTheLimitChangesNothing(t *testing.T) {
	known, filters := 0, 0
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 2))
		now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
		cfg := DefaultConfig()
		live := tenants.NewLive(tenants.DefaultConfig())
		limit := func() {
			limits := tenants.DefaultConfig()
			limits.Defaults.ActiveSeries = 1 + r.IntN(30)
			live.Replace(limits)
		}
		limit()
		task := TaskConfig{Partition: Partition{Topic: "t"}, Signal: events.Metrics, Config: cfg, Limits: live.Config}
		knowing, plain := NewTask(task), NewTask(task)
		for epoch := range 12 {
			records := append(repeating(r, now), unordered(r, now, epoch)...)
			r.Shuffle(len(records), func(i, j int) { records[i], records[j] = records[j], records[i] })
			for len(records) > 0 {
				n := min(1+r.IntN(100), len(records))
				stepBoth(knowing, plain, records[:n], now)
				records = records[n:]
			}
			for _, tn := range knowing.tenants {
				known += tn.repeats.Beyond()
				if tn.filter != nil {
					filters++
				}
			}
			if r.IntN(3) == 0 {
				limit()
			}
			a, b := NewOutputs(&cfg), NewOutputs(&cfg)
			knowing.Drain(a, now.UnixMilli())
			plain.Drain(b, now.UnixMilli())
			if what := differs(a, b); what != "" {
				t.Fatalf("seed %d, epoch %d: %s differ:\n%+v\n%+v", seed, epoch, what, a.Tally, b.Tally)
			}
			knowing.Committed(false)
			plain.Committed(false)
			now = now.Add([]time.Duration{time.Second, time.Minute, 4 * time.Minute, time.Hour}[r.IntN(4)]) // some series are idle, and swept
		}
	}
	if known < 1000 {
		t.Errorf("got %d events beyond the limit known, want many", known)
	}
	if filters < 100 {
		t.Errorf("got %d times a tenant with a filter of its series, want many", filters)
	}
}

// stepBoth gives two tasks the same records. plain is made to forget what it knows of events before each of them.
func stepBoth(knowing, plain *Task, records []Record, now time.Time) {
	knowing.Step(&Chunk{Signal: events.Metrics, Records: records}, now.UnixMilli())
	for i := range records {
		for _, tn := range plain.tenants {
			tn.repeats, tn.filter, tn.decoded = events.NewRepeats(1, 1), nil, 0
		}
		plain.Step(&Chunk{Signal: events.Metrics, Records: records[i : i+1]}, now.UnixMilli())
	}
}

// differs names what of two outputs is not equal.
func differs(a, b *Outputs) string {
	for _, part := range []struct {
		name string
		a, b any
	}{
		{"rollups", a.Rollups, b.Rollups}, {"series", a.Series, b.Series}, {"windows", a.Windows.Blocks, b.Windows.Blocks},
		{"changes of state", a.State, b.State}, {"dead letters", a.Letters, b.Letters},
		{"rows of dead letters", a.LetterRows, b.LetterRows}, {"limits", a.Limits, b.Limits}, {"tallies", a.Tally, b.Tally},
	} {
		if !reflect.DeepEqual(part.a, part.b) {
			return part.name
		}
	}
	return ""
}

// knowsTotals says whether a request of totals is known to the last of them, as one of ten.
func knowsTotals(t *Task, tn *tenant, r *rand.Rand, now time.Time) bool {
	var b events.Batch
	for range 10 {
		tn.decoder.Decode(&b, events.Source{Signal: events.Metrics, Key: []byte(tn.name), Value: totals(r, now), Repeats: tn.repeats})
		if len(b.Repeats) > 0 && b.Repeats[0].Start > 0 {
			return true
		}
	}
	return false
}

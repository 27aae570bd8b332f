package pipeline

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/vigie-io/vigie/pkg/events"
)

// BenchmarkSeries is what so many series cost a task from its start: an event that is the first of its series, a row of a
// series that is new, an event of one that is there, and a row of such. Series come in random order, with ten events each,
// of 50 tenants and 5,000 groups at most. An operation is all of it.
func BenchmarkSeries(b *testing.B) {
	for _, n := range []int{2_500, 25_000, 250_000} {
		b.Run(fmt.Sprintf("series=%d", n), func(b *testing.B) { benchSeries(b, n) })
	}
}

func benchSeries(b *testing.B, n int) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	logs := newSeriesLog(n)
	var first, announced, again, rows spent
	for b.Loop() {
		task := benchTask(b)
		out := NewOutputs(&task.cfg.Config)
		out.full, out.fullSeries = func(*Rollups) {}, func(*SeriesRows) {}
		first.step(task, logs, n, func(i int) int { return i })
		announced.drain(task, out, n)
		r := rand.New(rand.NewPCG(5, 6))
		for range 3 {
			again.step(task, logs, 3*n, func(int) int { return r.IntN(n) })
			rows.drain(task, out, n)
		}
	}
	b.ReportMetric(first.each(), "first-ns/event")
	b.ReportMetric(announced.each(), "new-ns/series")
	b.ReportMetric(again.each(), "again-ns/event")
	b.ReportMetric(rows.each(), "drain-ns/series")
}

// spent is the processor time of so many things.
type spent struct {
	time time.Duration
	n    int
}

func (s *spent) each() float64 { return float64(s.time.Nanoseconds()) / float64(s.n) }

// step steps a task with n events, of which the i-th is of the series which(i).
func (s *spent) step(task *Task, log *seriesLog, n int, which func(i int) int) {
	chunk := Chunk{Signal: events.Metrics}
	for i := 0; i < n; {
		chunk.Records = log.records(i, min(n-i, 500), which)
		i += len(chunk.Records)
		began := threadCPU()
		task.Step(&chunk, benchNow.UnixMilli())
		s.time += threadCPU() - began
	}
	s.n += n
}

// drain drains a task of n series.
func (s *spent) drain(task *Task, out *Outputs, n int) {
	out.Reset()
	began := threadCPU()
	task.Drain(out, benchNow.UnixMilli())
	task.Committed(false)
	s.time += threadCPU() - began
	s.n += n
}

// seriesLog makes records of series without holding them all.
type seriesLog struct {
	keys, heads, ends []string // of each series
	random            *rand.Rand
	values            []byte
	list              []Record
}

func newSeriesLog(n int) *seriesLog {
	l := &seriesLog{random: rand.New(rand.NewPCG(3, 4))}
	for i, m := range benchMetrics(n) {
		m.Tenant = fmt.Sprintf("tenant-%d", min(int(l.random.ExpFloat64()*8), 49))
		m.Name = [...]string{"http_request_duration_seconds", "rpc_seconds", "db_query_seconds", "queue_wait_seconds"}[i%4]
		m.Value = 0.5
		value := string(events.AppendMetric(nil, &m))
		const mark = `"value":`
		at := 0
		for value[at:at+len(mark)] != mark {
			at++
		}
		l.keys = append(l.keys, m.Tenant)
		l.heads = append(l.heads, value[:at+len(mark)])
		l.ends = append(l.ends, value[at+len(mark)+len("0.5"):])
	}
	return l
}

// records makes n records, valid until the next call.
func (l *seriesLog) records(from, n int, which func(i int) int) []Record {
	l.values, l.list = l.values[:0], l.list[:0]
	if cap(l.values) < n*400 {
		l.values = make([]byte, 0, n*400)
	}
	for i := from; i < from+n; i++ {
		s, at := which(i), len(l.values)
		l.values = append(l.values, l.heads[s]...)
		l.values = strconv.AppendFloat(l.values, l.random.ExpFloat64(), 'g', -1, 64)
		l.values = append(l.values, l.ends[s]...)
		l.list = append(l.list, Record{
			Offset: int64(i), Timestamp: benchNow.UnixNano(), Key: []byte(l.keys[s]), Value: l.values[at:len(l.values):len(l.values)],
		})
	}
	return l.list
}

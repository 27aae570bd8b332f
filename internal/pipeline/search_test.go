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
			fmt.Fprintf(&value, `{"x%d":1,"time":%d,"name":"m%d","kind":%q,"unit":%q,"value":%v,"labels":{"n":"%d","service":"s%d"}}`+"\n",
				r.IntN(1e9), at.UnixNano(), r.IntN(2), kind, []string{"", "s"}[r.IntN(2)], r.ExpFloat64(), r.IntN(300), r.IntN(3))
		}
		records = append(records, Record{
			Offset: int64(i), Timestamp: now.UnixNano(),
			Key: []byte([]string{"acme", "acme#1", "demo"}[r.IntN(3)]), Value: []byte(value.String()),
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
			for _, tn := range ahead.tenants {
				wantClasses(t, tn)
			}
			now = now.Add([]time.Duration{time.Second, time.Minute, time.Hour}[r.IntN(3)]) // some series are idle, and swept
		}
	}
}

// wantClasses checks that a tenant's classes and groups are those of its series, and none is left of such as are gone.
func wantClasses(t *testing.T, tn *tenant) {
	t.Helper()
	sizes, groups := map[*class]int{}, map[*group]int{}
	tn.table.Range(func(ref uint32) bool {
		c := tn.class(tn.table.At(ref))
		sizes[c]++
		groups[c.group]++
		return true
	})
	for c, n := range sizes {
		if c.size != n || tn.groups[c.group.groupKey] != c.group {
			t.Fatalf("class %+v: got %d series, want %d, and its group there", c.about, c.size, n)
		}
	}
	for g, n := range groups {
		if g.size != n {
			t.Fatalf("group %+v: got %d series, want %d", g.groupKey, g.size, n)
		}
	}
	if tn.classes.Len() != len(sizes) || len(tn.groups) != len(groups) {
		t.Fatalf("got %d classes and %d groups, want %d and %d", tn.classes.Len(), len(tn.groups), len(sizes), len(groups))
	}
}

// Series that are new in one run have the unit, the help and the service of their own, whatever they share.
func TestClassesOfNewSeries(t *testing.T) {
	const n = 8
	unit := func(i int) string { return []string{"", "s"}[i&1] }
	help := func(i int) string { return []string{"one", "two"}[i>>1&1] }
	service := func(i int) string { return []string{"a", "b"}[i>>2] }
	task := NewTask(TaskConfig{Partition: Partition{Topic: "t"}, Signal: events.Metrics, Config: DefaultConfig()})
	var records []Record
	for i := range n {
		value := fmt.Sprintf(`{"name":"m","value":1,"unit":%q,"help":%q,"labels":{"n":"%d","service":%q}}`,
			unit(i), help(i), i, service(i))
		records = append(records, Record{Timestamp: benchNow.UnixNano(), Key: []byte("acme"), Value: []byte(value)})
	}
	task.Step(&Chunk{Signal: events.Metrics, Records: records[:1]}, benchNow.UnixMilli()) // then the tenant is there
	task.Step(&Chunk{Signal: events.Metrics, Records: records[1:]}, benchNow.UnixMilli())
	out := NewOutputs(&task.cfg.Config)
	task.Drain(out, benchNow.UnixMilli())
	if len(out.Series) != 1 || len(out.Series[0].ID) != n {
		t.Fatalf("got %+v, want %d series", out.Series, n)
	}
	for row, labels := range out.Series[0].Labels {
		b, i := out.Series[0], int(labels.Get("n")[0]-'0')
		if b.Unit[row] != unit(i) || b.Help[row] != help(i) || b.Service[row] != service(i) {
			t.Errorf("series %d: got unit %q, help %q, service %q, want %q, %q, %q",
				i, b.Unit[row], b.Help[row], b.Service[row], unit(i), help(i), service(i))
		}
	}
}

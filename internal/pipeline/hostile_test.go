package pipeline

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"testing"

	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/sketches"
)

// hostileLimits let no tenant have more series than those of hostileSeries.
func hostileLimits(series int) func() *tenants.Config {
	limits := tenants.DefaultConfig()
	limits.Defaults.ActiveSeries = series
	return func() *tenants.Config { return &limits }
}

// neighbour is what a drain says of a tenant, which is all that anybody can see of it.
type neighbour struct {
	rollups  Rollups
	series   SeriesRows
	limits   []string
	letters  int
	progress []int64
}

func neighbourOf(task *Task, out *Outputs, name string) (n neighbour) {
	for _, b := range out.Rollups {
		rest := b.Sketch
		for i, tenant := range b.Tenant {
			size, err := new(sketches.Sketch).DecodeDD(rest)
			if err != nil {
				panic(err)
			}
			if tenant == name {
				n.rollups.Sketch = append(n.rollups.Sketch, rest[:size]...)
				n.rollups.Metric, n.rollups.Service = append(n.rollups.Metric, b.Metric[i]), append(n.rollups.Service, b.Service[i])
				n.rollups.Grain, n.rollups.Series, n.rollups.Pane = append(n.rollups.Grain, b.Grain[i]), append(n.rollups.Series, b.Series[i]), append(n.rollups.Pane, b.Pane[i])
				n.rollups.Count, n.rollups.Sum = append(n.rollups.Count, b.Count[i]), append(n.rollups.Sum, b.Sum[i])
				n.rollups.Min, n.rollups.Max = append(n.rollups.Min, b.Min[i]), append(n.rollups.Max, b.Max[i])
			}
			rest = rest[size:]
		}
	}
	for _, b := range out.Series {
		for i, tenant := range b.Tenant {
			if tenant == name {
				n.series.ID, n.series.Labels = append(n.series.ID, b.ID[i]), append(n.series.Labels, slices.Clone(b.Labels[i]))
			}
		}
	}
	for i, tenant := range out.Limits.Tenant {
		if tenant == name {
			n.limits = append(n.limits, fmt.Sprint(out.Limits.Reason[i], out.Limits.Used[i], out.Limits.Dropped[i]))
		}
	}
	for i := range out.Letters {
		if string(out.Letters[i].Key) == name {
			n.letters++
		}
	}
	rows := ProgressRows{}
	task.AppendProgress(&rows, benchNow.UnixMilli())
	for i, tenant := range rows.Tenant {
		if tenant == name {
			n.progress = append(n.progress, rows.Time[i])
		}
	}
	return n
}

// Whatever a tenant sends, another one on the same partition gets the rows, the labels, the progress and the limits
// that it has alone, bit for bit, in the same epoch; and not a dead letter.
func TestHostileTenantHarmsNoOther(t *testing.T) {
	all, others := benchMetrics(200), benchMetrics(200)
	for i := range others {
		others[i].Tenant = "other"
	}
	for format, kinds := range hostilities() {
		for i := range kinds {
			t.Run(format+"/"+kinds[i].name, func(t *testing.T) {
				random := rand.New(rand.NewPCG(3, 4))
				task := TaskConfig{Partition: Partition{Topic: "t"}, Signal: events.Metrics, Config: DefaultConfig(), Limits: hostileLimits(300)}
				alone, beside := NewTask(task), NewTask(task)
				bad, good := &hostile{random: rand.New(rand.NewPCG(1, 2))}, &hostile{random: rand.New(rand.NewPCG(5, 6))}
				for epoch := range 4 {
					theirs, ours := kinds[i].records(bad, all, 2000), kinds[0].records(good, others, 1000)
					mixed := slices.Concat(theirs, ours)
					random.Shuffle(len(mixed), func(a, b int) { mixed[a], mixed[b] = mixed[b], mixed[a] })
					var only []Record
					for _, r := range mixed {
						if string(r.Key) == "other" {
							only = append(only, r)
						}
					}
					alone.Step(&Chunk{Signal: events.Metrics, Records: only}, benchNow.UnixMilli())
					beside.Step(&Chunk{Signal: events.Metrics, Records: mixed}, benchNow.UnixMilli())
					a, b := NewOutputs(&task.Config), NewOutputs(&task.Config)
					alone.Drain(a, benchNow.UnixMilli())
					beside.Drain(b, benchNow.UnixMilli())
					want, got := neighbourOf(alone, a, "other"), neighbourOf(beside, b, "other")
					if len(want.rollups.Count) == 0 || want.letters > 0 {
						t.Fatalf("epoch %d: got %d rows and %d dead letters of a tenant alone, want rows and no letter", epoch, len(want.rollups.Count), want.letters)
					}
					if !reflect.DeepEqual(got, want) {
						t.Fatalf("epoch %d: the tenant beside a hostile one got\n%+v\nwant\n%+v", epoch, got, want)
					}
					alone.Committed(true)
					beside.Committed(true)
				}
			})
		}
	}
}

// What a tenant makes a task keep does not grow with what it sends: after its first epochs a task takes no more,
// whatever comes, and less than its limits allow.
func TestHostileTenantIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("the race detector, with which -short runs, allocates beside what is measured")
	}
	const series = 2000
	all := benchMetrics(series)
	for format, kinds := range hostilities() {
		for i := range kinds {
			t.Run(format+"/"+kinds[i].name, func(t *testing.T) {
				task := NewTask(TaskConfig{Partition: Partition{Topic: "t"}, Signal: events.Metrics, Config: DefaultConfig(), Limits: hostileLimits(series)})
				out := NewOutputs(&task.cfg.Config)
				h := &hostile{random: rand.New(rand.NewPCG(1, 2))}
				epochs := func(n int) uint64 {
					for range n {
						task.Step(&Chunk{Signal: events.Metrics, Records: kinds[i].records(h, all, 5000)}, benchNow.UnixMilli())
						out.Reset()
						task.Drain(out, benchNow.UnixMilli())
						task.Committed(true)
					}
					out.Reset()
					var m runtime.MemStats
					runtime.GC()
					runtime.ReadMemStats(&m)
					return m.HeapAlloc
				}
				before := epochs(0)
				some, more := epochs(4), epochs(12)
				// A series is an entry, a key of 200 bytes, and some digests.
				if most := uint64(series*1000 + 24<<20); some-before > most {
					t.Errorf("got %d bytes for %d series, want %d at most", some-before, series, most)
				}
				if more > some+256<<10 {
					t.Errorf("got %d bytes after four epochs, %d after sixteen, want no more", some, more)
				}
				runtime.KeepAlive(task)
			})
		}
	}
}

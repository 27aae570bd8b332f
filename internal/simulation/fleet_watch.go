package simulation

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/vigie-io/vigie/internal/pipeline"
)

// Phase is what was seen of a Fleet while something was done to it.
type Phase struct {
	Name      string
	Length    time.Duration
	Rest      time.Duration // until it was at rest
	Rounds    int32         // of rebalancing of the workers' group
	Moved     int           // partitions that a process that lives gave to another
	Orphans   int           // partitions whose process had gone
	Inserts   float64       // a second, in the mean
	Parts     float64       // a second, in the mean
	Peak      int           // inserts of the second with the most
	Again     int           // inserts dropped by their tokens
	Open      int           // transactions open at the same time, at most
	Behind    time.Duration // age of the newest results of the partition that is farthest behind, at most
	State     int64         // bytes of the keys and values of state that hold, at the end
	StateRate float64       // bytes a second appended to the topic of state
	Epoch     time.Duration // at the end, in the mean of the workers
	Skew      float64       // events of the busiest worker, in means
	Requests  map[string]float64
}

func (p *Phase) String() string {
	return fmt.Sprintf("%s: %.0fs, at rest after %.0fs; %d rounds, %d partitions moved, %d orphans; "+
		"%.0f inserts/s (peak %d, %d again), %.0f parts/s; epochs of %.2fs, %d transactions open, results %.1fs behind; "+
		"state %.2f MB, %.0f kB/s; busiest worker %.1f means; requests a second: %s",
		p.Name, p.Length.Seconds(), p.Rest.Seconds(), p.Rounds, p.Moved, p.Orphans, p.Inserts, p.Peak, p.Again, p.Parts,
		p.Epoch.Seconds(), p.Open, p.Behind.Seconds(),
		float64(p.State)/1e6, p.StateRate/1e3, p.Skew, p.requests())
}

// requests lists the kinds that come once a second or more.
func (p *Phase) requests() string {
	var list []string
	most := func(a, b string) int { return cmp.Compare(p.Requests[b], p.Requests[a]) }
	for _, name := range slices.SortedFunc(maps.Keys(p.Requests), most) {
		if p.Requests[name] >= 1 {
			list = append(list, fmt.Sprintf("%s %.0f", name, p.Requests[name]))
		}
	}
	return strings.Join(list, ", ")
}

// counts are those that only grow, at one time.
type counts struct {
	at         time.Time
	generation int32
	appended   int64
	events     []int64 // by member
	requests   [256]int64
}

func (f *Fleet) counts() counts {
	c := counts{at: time.Now(), generation: f.generation(), appended: f.appended()}
	for _, m := range f.members {
		c.events = append(c.events, m.events.Load())
	}
	for key := range c.requests {
		c.requests[key] = f.requests[key].Load()
	}
	return c
}

// Watch does something, and looks at the fleet once a second from then on, until the length has passed and it is at
// rest. It gives up after limit.
func (f *Fleet) Watch(name string, length, limit time.Duration, do func()) (*Phase, error) {
	p := &Phase{Name: name, Rest: -1}
	before, owners := f.counts(), f.owners()
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	for p.Rest < 0 || p.Length < length {
		time.Sleep(time.Second)
		p.Length = time.Since(before.at)
		if err := f.look(p); err != nil {
			return p, fmt.Errorf("%s: %w", name, err)
		}
		select {
		case <-done:
			if p.Rest < 0 && f.resting() == "" {
				p.Rest = p.Length
			}
		default:
		}
		if p.Length > limit {
			return p, fmt.Errorf("%s: not at rest after %s: %s", name, limit, f.resting())
		}
	}
	p.handed(owners, f.owners())
	p.grown(before, f.counts())
	p.inserted(f.Warehouse, before.at)
	p.State, p.Epoch = f.holds()
	return p, nil
}

// look takes in what is so now.
func (f *Fleet) look(p *Phase) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	transactions, err := f.admin.ListTransactions(ctx, nil, []string{"Ongoing"})
	if err != nil {
		return fmt.Errorf("list transactions: %w", err)
	}
	p.Open = max(p.Open, len(transactions.TransactionalIDs()))
	if behind, told := f.Warehouse.Behind(f.cfg.Topics.Metrics.Name, f.shape.Partitions); told {
		p.Behind = max(p.Behind, behind)
	}
	return nil
}

// owners are the processes whose workers run the tasks of the partitions, by partition.
func (f *Fleet) owners() map[int32]*member {
	out := map[int32]*member{}
	for _, m := range f.members {
		w := m.worker.Load()
		if w == nil {
			continue
		}
		for _, t := range w.Topology().Tasks {
			if t.Topic == f.cfg.Topics.Metrics.Name && t.State == pipeline.TaskRunning {
				out[t.Partition] = m
			}
		}
	}
	return out
}

// handed counts what changed hands.
func (p *Phase) handed(before, after map[int32]*member) {
	for partition, m := range before {
		switch {
		case after[partition] == m:
		case m.stop == nil:
			p.Orphans++
		default:
			p.Moved++
		}
	}
}

// grown takes in what came between two times.
func (p *Phase) grown(before, after counts) {
	seconds := after.at.Sub(before.at).Seconds()
	p.Rounds, p.StateRate = after.generation-before.generation, float64(after.appended-before.appended)/seconds
	most, sum := int64(0), int64(0)
	for i := range after.events {
		n := after.events[i] - before.events[i]
		most, sum = max(most, n), sum+n
	}
	p.Skew = float64(most) * float64(len(after.events)) / float64(max(sum, 1))
	p.Requests = map[string]float64{}
	for key := range after.requests {
		if n := after.requests[key] - before.requests[key]; n > 0 {
			p.Requests[kmsg.NameForKey(int16(key))] = float64(n) / seconds
		}
	}
}

// inserted takes in what ClickHouse got since.
func (p *Phase) inserted(w *Warehouse, since time.Time) {
	sum := w.Between(since, time.Now())
	p.Inserts, p.Parts, p.Again = float64(sum.Inserts)/p.Length.Seconds(), float64(sum.Parts)/p.Length.Seconds(), sum.Again
	for at := since; at.Before(time.Now()); at = at.Add(time.Second) {
		p.Peak = max(p.Peak, w.Between(at, at.Add(time.Second)).Inserts)
	}
}

// fresh is how far behind results may be at rest: what epochs, transactions and inserts take.
const fresh = 15 * time.Second

// resting says what keeps the fleet from being at rest; "" is nothing.
func (f *Fleet) resting() string {
	info := f.cluster.GroupInfo(f.cfg.Group)
	if info == nil || info.State != "Stable" {
		return "the workers' group is not stable"
	}
	if n := len(f.owners()); n < int(f.shape.Partitions) {
		return fmt.Sprintf("%d of %d partitions are worked on", n, f.shape.Partitions)
	}
	switch behind, told := f.Warehouse.Behind(f.cfg.Topics.Metrics.Name, f.shape.Partitions); {
	case !told:
		return "there is a partition of which no progress has been told"
	case behind > fresh:
		return fmt.Sprintf("results of a partition are %s behind", behind)
	}
	return ""
}

func (f *Fleet) generation() int32 {
	if info := f.cluster.GroupInfo(f.cfg.Group); info != nil {
		return info.Epoch
	}
	return 0
}

// appended is what has been written to the topic of state, in bytes: nothing compacts it here.
func (f *Fleet) appended() (sum int64) {
	for _, p := range f.cluster.PartitionInfos(f.cfg.Topics.StateMetrics.Name) {
		sum += p.NumBytes
	}
	return sum
}

// holds is what compaction would leave of the state, and the mean length of epochs.
func (f *Fleet) holds() (state int64, epoch time.Duration) {
	workers := 0
	for _, m := range f.members {
		if w := m.worker.Load(); w != nil {
			t := w.Topology()
			workers++
			epoch += t.EpochTarget
			for i := range t.Tasks {
				state += t.Tasks[i].StateBytes
			}
		}
	}
	return state, epoch / time.Duration(max(workers, 1))
}

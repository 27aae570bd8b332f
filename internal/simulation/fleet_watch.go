package simulation

import (
	"cmp"
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
	Wider     time.Duration // until the tiers of a minute and an hour were, too
	Rounds    int32         // of rebalancing of the workers' group
	Merging   int32         // the same of the mergers'
	Moved     int           // partitions that a process that lives gave to another
	Orphans   int           // partitions whose process had gone
	Inserts   float64       // a second, in the mean
	Parts     float64       // a second, in the mean
	Rows      float64       // a second, of the tier of 10 s
	Merged    float64       // the same of the wider tiers
	Peak      int           // inserts of the second with the most
	Again     int           // inserts dropped by their tokens
	Open      int           // transactions open at the same time, at most
	Behind    time.Duration // age of the newest results of the partition that is farthest behind, at most
	Late      time.Duration // the same of the wider tiers
	State     int64         // bytes of the keys and values of state that hold, at the end
	StateRate float64       // bytes a second appended to the topic of state
	Positions float64       // the same of the topic of mergers' state
	Epoch     time.Duration // at the end, in the mean of the workers
	Skew      float64       // events of the busiest worker, in means
	Requests  map[string]float64
}

func (p *Phase) String() string {
	return fmt.Sprintf("%s: %.0fs, at rest after %.0fs, wider tiers %.0fs; %d rounds, mergers %d, %d partitions moved, %d orphans; "+
		"%.0f inserts/s (peak %d, %d again), %.0f parts/s, %.0f rows/s, merged %.0f; epochs of %.2fs, %d transactions open, "+
		"results %.1fs behind, wider tiers %.0fs; "+
		"state %.2f MB, %.0f kB/s, positions %.1f kB/s; busiest worker %.1f means; requests a second: %s",
		p.Name, p.Length.Seconds(), p.Rest.Seconds(), p.Wider.Seconds(), p.Rounds, p.Merging, p.Moved, p.Orphans,
		p.Inserts, p.Peak, p.Again, p.Parts, p.Rows, p.Merged, p.Epoch.Seconds(), p.Open,
		p.Behind.Seconds(), p.Late.Seconds(),
		float64(p.State)/1e6, p.StateRate/1e3, p.Positions/1e3, p.Skew, p.requests())
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
	at        time.Time
	rounds    int32 // of the workers' group
	merging   int32 // of the mergers'
	state     int64
	positions int64
	events    []int64 // by member
	requests  [256]int64
}

func (f *Fleet) counts() counts {
	topics := &f.cfg.Topics
	c := counts{
		at: time.Now(), rounds: f.generation(f.cfg.Group), merging: f.generation(f.mergersGroup()),
		state: f.appended(topics.StateMetrics.Name), positions: f.appended(topics.StateCoarse.Name),
	}
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
	p := &Phase{Name: name, Rest: -1, Wider: -1}
	before, owners := f.counts(), f.owners()
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	for p.Rest < 0 || p.Wider < 0 || p.Length < length {
		time.Sleep(time.Second)
		p.Length = time.Since(before.at)
		f.look(p)
		select {
		case <-done:
			if p.Rest < 0 && f.resting() == "" {
				p.Rest = p.Length
			}
			if p.Wider < 0 && f.widerResting() == "" {
				p.Wider = p.Length
			}
		default:
		}
		if p.Length > limit {
			return p, fmt.Errorf("%s: not at rest after %s: %s", name, limit, cmp.Or(f.resting(), f.widerResting()))
		}
	}
	p.handed(owners, f.owners())
	p.grown(before, f.counts())
	p.inserted(f.Warehouse, before.at)
	p.State, p.Epoch = f.holds()
	return p, nil
}

// look takes in what is so now.
func (f *Fleet) look(p *Phase) {
	p.Open = max(p.Open, f.takeOpen())
	if behind, told := f.Warehouse.Behind(f.cfg.Topics.Metrics.Name, f.shape.Partitions); told {
		p.Behind = max(p.Behind, behind)
	}
	if behind, told := f.Warehouse.WiderBehind(f.cfg.Topics.Metrics.Name, f.shape.Partitions); told {
		p.Late = max(p.Late, behind)
	}
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
	p.Rounds, p.Merging = after.rounds-before.rounds, after.merging-before.merging
	p.StateRate, p.Positions = float64(after.state-before.state)/seconds, float64(after.positions-before.positions)/seconds
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
	p.Rows, p.Merged = float64(sum.Rows)/p.Length.Seconds(), float64(sum.Merged)/p.Length.Seconds()
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

// widerResting says what keeps the tiers of a minute and an hour from being at rest; "" is nothing.
func (f *Fleet) widerResting() string {
	if info := f.cluster.GroupInfo(f.mergersGroup()); info == nil || info.State != "Stable" {
		return "the mergers' group is not stable"
	}
	if n := f.mergers.working(); n < int(f.shape.Results) {
		return fmt.Sprintf("%d of %d results partitions are merged", n, f.shape.Results)
	}
	switch behind, told := f.Warehouse.WiderBehind(f.cfg.Topics.Metrics.Name, f.shape.Partitions); {
	case !told:
		return "there is a partition of which the wider tiers have no progress"
	case behind > 2*f.shape.Coarse.Interval+fresh:
		return fmt.Sprintf("the wider tiers of a partition are %s behind", behind)
	}
	return ""
}

func (f *Fleet) mergersGroup() string { return f.cfg.Group + "-coarse" }

func (f *Fleet) generation(group string) int32 {
	if info := f.cluster.GroupInfo(group); info != nil {
		return info.Epoch
	}
	return 0
}

// appended is what has been written to a topic of state, in bytes: nothing compacts it here.
func (f *Fleet) appended(topic string) (sum int64) {
	for _, p := range f.cluster.PartitionInfos(topic) {
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

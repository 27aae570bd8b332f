package live

import (
	"cmp"
	"context"
	"slices"

	"github.com/shirou/gopsutil/v4/process"
)

// mostProcesses is how many names are reported for memory and for processor time each.
const mostProcesses = maxParts / 2

// processes reports how many processes there are, and of the greatest ones by name what they use. Totals per name would
// fall whenever one of several processes ends, so processor time is a level: cores used since the last measurement.
type processes struct {
	seconds map[int32]float64 // processor time by pid at the last measurement, nil before the first
	at      int64
}

type usage struct {
	name     string
	resident float64
	cores    float64
}

func (p *processes) measure(ctx context.Context, s *sample) error {
	all, err := process.ProcessesWithContext(ctx)
	if err != nil {
		return err
	}
	s.level("host_processes", "", float64(len(all)))
	byName, seconds := p.usage(ctx, all, float64(s.now-p.at)/1e9)
	measuredBefore := p.seconds != nil
	p.seconds, p.at = seconds, s.now

	for _, u := range greatest(byName, func(u *usage) float64 { return u.resident }) {
		s.level("host_process_resident_memory_bytes", "bytes", u.resident, "process", u.name)
	}
	if !measuredBefore {
		return nil
	}
	for _, u := range greatest(byName, func(u *usage) float64 { return u.cores }) {
		s.level("host_process_cpu_cores", "", u.cores, "process", u.name)
	}
	return nil
}

// usage sums by name what processes use, elapsed seconds after the last measurement. One that ends meanwhile, or that
// this user may not look at, is left out.
func (p *processes) usage(ctx context.Context, all []*process.Process,
	elapsed float64) (byName []*usage, seconds map[int32]float64) {
	seconds = make(map[int32]float64, len(all))
	index := map[string]*usage{}
	for _, one := range all {
		name, err := one.NameWithContext(ctx)
		if err != nil || name == "" {
			continue
		}
		u := index[text(name)]
		if u == nil {
			u = &usage{name: text(name)}
			index[u.name] = u
			byName = append(byName, u)
		}
		if memory, err := one.MemoryInfoWithContext(ctx); err == nil {
			u.resident += float64(memory.RSS)
		}
		if times, err := one.TimesWithContext(ctx); err == nil {
			now := times.User + times.System
			seconds[one.Pid] = now
			// Less than before is another process with the same id.
			if before, known := p.seconds[one.Pid]; known && now >= before && elapsed > 0 {
				u.cores += (now - before) / elapsed
			}
		}
	}
	return byName, seconds
}

// greatest returns the greatest by a figure, largest first, without those that have none of it.
func greatest(all []*usage, figure func(*usage) float64) []*usage {
	sorted := slices.SortedFunc(slices.Values(all), func(a, b *usage) int {
		return cmp.Or(cmp.Compare(figure(b), figure(a)), cmp.Compare(a.name, b.name))
	})
	sorted = sorted[:min(len(sorted), mostProcesses)]
	return slices.DeleteFunc(sorted, func(u *usage) bool { return figure(u) <= 0 })
}

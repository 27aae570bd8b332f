package pipeline

import (
	"cmp"
	"slices"
	"time"
)

// AppendProgress appends how far the partition and its tenants are, with what is being drained now: the partition's own
// row always once it is known, a tenant's when its watermark has moved since the last that was committed.
func (t *Task) AppendProgress(rows *ProgressRows, now int64) {
	if t.publishing = max(t.published, t.reach.Through); t.publishing > 0 {
		rows.add(t.cfg.Partition, "", t.publishing, now)
	}
	var moved []*tenant
	for _, tn := range t.tenants {
		if tn.newest > tn.published {
			moved = append(moved, tn)
		}
	}
	slices.SortFunc(moved, func(a, b *tenant) int { return cmp.Compare(a.name, b.name) })
	for _, tn := range moved {
		rows.add(t.cfg.Partition, tn.name, t.watermark(tn)/int64(time.Millisecond), now)
	}
}

// blocks calls fn for parts of the rows that are within the bounds of a block.
func (r *ProgressRows) blocks(cfg *Config, fn func(*ProgressRows) error) error {
	// No row takes more than 128 bytes beside its topic: a tenant's name has 64 at most.
	return parts(cfg, len(r.Topic), 256, func(from, to int) error {
		return fn(&ProgressRows{
			Topic: r.Topic[from:to], Partition: r.Partition[from:to], Tenant: r.Tenant[from:to], Time: r.Time[from:to],
			Updated: r.Updated[from:to],
		})
	})
}

func (r *ProgressRows) add(p Partition, tenant string, time, updated int64) {
	r.Topic = append(r.Topic, p.Topic)
	r.Partition = append(r.Partition, p.Partition)
	r.Tenant = append(r.Tenant, tenant)
	r.Time = append(r.Time, time)
	r.Updated = append(r.Updated, updated)
}

func (r *ProgressRows) reset() {
	*r = ProgressRows{
		Topic: r.Topic[:0], Partition: r.Partition[:0], Tenant: r.Tenant[:0], Time: r.Time[:0], Updated: r.Updated[:0],
	}
}

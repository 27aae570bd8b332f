package e2e

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/testkit"
)

// evidence is a directory for what programs print, which is left behind when the test fails.
func evidence(t testing.TB) (dir string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "vigie-chaos-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !t.Failed() {
			_ = os.RemoveAll(dir)
			return
		}
		t.Logf("what every program printed, and when it was struck: %s", dir)
	})
	return dir
}

// write appends a line with the time to a file of the evidence.
func (c *chaos) write(name, format string, args ...any) {
	c.t.Helper()
	f, err := os.OpenFile(filepath.Join(c.evidence, name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		c.t.Error(err)
		return
	}
	defer f.Close()
	if _, err := fmt.Fprintf(f, time.Now().UTC().Format(time.RFC3339Nano)+" "+format+"\n", args...); err != nil {
		c.t.Error(err)
	}
}

// transactions says which transactions are open though nothing is written any more, and keeps what their coordinators
// have decided.
func (c *chaos) transactions() {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	open, err := testkit.OpenTransactions(ctx, c.client(c.t), c.topic("results"), c.topic("state_metrics"), c.topic("dlq"),
		"__consumer_offsets")
	if err != nil {
		c.t.Errorf("look for open transactions: %v", err)
	}
	for _, line := range open {
		c.t.Log("open: " + line)
	}
	file, err := os.Create(filepath.Join(c.evidence, "decisions.log"))
	if err != nil {
		c.t.Error(err)
		return
	}
	defer file.Close()
	if err := testkit.WriteTransactionLog(ctx, strings.Split(c.broker.Addr, ","), file); err != nil {
		c.t.Errorf("read the coordinators' log: %v", err)
	}
}

// stretch is a run of records of one partition that may all be lost: every event of theirs is of a cell that lacks as
// many.
type stretch struct {
	partition   int32
	first, last int64 // offsets
	from, to    time.Time
	events      int
}

// autopsy says where in the log what is missing was, and what the workers' transactions were there: the longest
// stretches are it, for one record alone may be in a cell that lacks another.
func (c *chaos) autopsy(lost map[seriesKey]map[int64]uint64) {
	const shown = 5
	stretches := c.stretches(lost)
	slices.SortFunc(stretches, func(a, b stretch) int { return b.events - a.events })
	for _, s := range stretches[:min(shown, len(stretches))] {
		c.t.Logf("may be lost: %d events of partition %d, offsets %d to %d, written %s to %s", s.events, s.partition, s.first, s.last,
			s.from.Format(time.StampMilli), s.to.Format(time.StampMilli))
		for _, line := range c.epochs(s) {
			c.t.Log("  " + line)
		}
	}
}

func (c *chaos) stretches(lost map[seriesKey]map[int64]uint64) (out []stretch) {
	open, left := map[int32]*stretch{}, map[int32]map[seriesKey]map[int64]uint64{}
	closeAt := func(partition int32) {
		if s := open[partition]; s != nil {
			out = append(out, *s)
			delete(open, partition)
		}
	}
	c.readLog(c.topic("metrics"), kgo.ReadCommitted(), func(r *kgo.Record) {
		cells, events := cellsOf(r)
		if open[r.Partition] == nil {
			left[r.Partition] = copyCells(lost)
		}
		rest := left[r.Partition]
		for key, panes := range cells {
			for pane, n := range panes {
				if rest[key][pane] < n {
					closeAt(r.Partition)
					return
				}
				rest[key][pane] -= n
			}
		}
		s := open[r.Partition]
		if s == nil {
			s = &stretch{partition: r.Partition, first: r.Offset, from: r.Timestamp}
			open[r.Partition] = s
		}
		s.last, s.to, s.events = r.Offset, r.Timestamp, s.events+events
	})
	for partition := range open {
		closeAt(partition)
	}
	return out
}

func copyCells(cells map[seriesKey]map[int64]uint64) map[seriesKey]map[int64]uint64 {
	out := map[seriesKey]map[int64]uint64{}
	for key, panes := range cells {
		out[key] = map[int64]uint64{}
		for pane, n := range panes {
			out[key][pane] = n
		}
	}
	return out
}

// cellsOf says which cells a record of the load adds to.
func cellsOf(r *kgo.Record) (cells map[seriesKey]map[int64]uint64, events int) {
	var list []struct {
		Tenant, Name string
		Time         int64
		Labels       map[string]string
	}
	text := "[" + strings.Trim(string(r.Value), "[]") + "]"
	if json.Unmarshal([]byte(text), &list) != nil {
		return nil, 0
	}
	cells = map[seriesKey]map[int64]uint64{}
	for _, e := range list {
		key := seriesKey{e.Tenant, e.Name, e.Labels["service"], e.Labels["route"], e.Labels["instance"]}
		if cells[key] == nil {
			cells[key] = map[int64]uint64{}
		}
		cells[key][e.Time/1000/pane*pane]++
	}
	return cells, len(list)
}

// epochs lists the transactions whose position is in the stretch, the last before it and the first behind, from the log
// of the state.
func (c *chaos) epochs(s stretch) (out []string) {
	type epoch struct {
		next     int64
		producer string
		at       time.Time
		end      string
	}
	var all []*epoch
	open := map[string]*epoch{}
	c.readLog(c.topic("state_metrics"), kgo.ReadUncommitted(), func(r *kgo.Record) {
		switch producer := fmt.Sprintf("producer %d", r.ProducerID); {
		case r.Partition != s.partition:
		case r.Attrs.IsControl():
			if e := open[producer]; e != nil && len(r.Key) >= 4 {
				e.end = map[bool]string{true: "committed", false: "aborted"}[r.Key[3] == 1] + r.Timestamp.Format(" "+time.StampMilli)
				delete(open, producer)
			}
		case len(r.Key) == 2 && r.Key[0] == 3 && len(r.Value) == 25: // a position, docs/format/state.md
			e := &epoch{int64(binary.LittleEndian.Uint64(r.Value[17:])), fmt.Sprintf("%s epoch %d", producer, r.ProducerEpoch), r.Timestamp, "not ended"}
			all, open[producer] = append(all, e), e
		}
	})
	for i, e := range all {
		inside := e.next > s.first && e.next <= s.last+1
		before := e.next <= s.first && (i+1 == len(all) || all[i+1].next > s.first)
		behind := e.next > s.last+1 && (i == 0 || all[i-1].next <= s.last+1)
		if inside || before || behind {
			out = append(out, fmt.Sprintf("epoch up to offset %d: %s, written %s, %s", e.next, e.producer, e.at.Format(time.StampMilli), e.end))
		}
	}
	return out
}

// readLog calls fn for all records of a topic up to its present end, markers included.
func (c *chaos) readLog(topic string, isolation kgo.IsolationLevel, fn func(*kgo.Record)) {
	c.t.Helper()
	client := c.client(c.t, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(isolation), kgo.KeepControlRecords())
	for {
		ctx, cancel := context.WithTimeout(c.t.Context(), 3*time.Second) // nothing is written any more
		fetches := client.PollFetches(ctx)
		cancel()
		if fetches.NumRecords() == 0 {
			return
		}
		fetches.EachRecord(fn)
	}
}

package pipeline

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vigie-io/vigie/internal/pipeline/state"
)

var _ state.Operator = (*position)(nil)

// Origin is where a session begins to read a source partition.
type Origin struct {
	TopicID   [16]byte // of the source topic; zero: it is not known, and nothing is checked
	Group     string   // whose offset Committed is
	Committed int64    // where Poll begins; -1: the group has no offset, and Poll begins at Start
	Own       bool     // a member of the group committed it, and no operator
	Of        [16]byte // the id of the topic that a member committed it for, in this cluster; zero: it is not known
	Start     int64    // first offset that is still there
	End       int64    // behind the last
}

// Move is where the group's offset has to be before a task can begin.
type Move struct {
	Offset int64
	Why    string // for the log: of the offset that was there before
}

// ErrMoved is why a task does not begin in this session: the group's offset is to be another, and the next session
// begins there.
var ErrMoved = errors.New("the group's offset has been moved: a new session begins there")

// position is up to where a task's results and state are, as an Operator of one key: the id of the source topic and the
// offset behind the last record. It is written with each epoch that commits an offset, so the two are equal for as long
// as nobody sets the group's offset by hand, and no old one outlives a topic. Rows are deltas: what is read twice is
// counted twice, and here it is found out.
type position Task

const positionVersion = 1

// reading is what a task knows of its partition.
type reading struct {
	topic     [16]byte
	next      int64 // behind the last record
	committed int64 // next of the last committed epoch, or -1
	known     bool  // restored, or read from the source since
	tracked   bool  // the source topic's id is known
	replaced  bool  // the results before are of an earlier topic of that name
	origin    int64 // the group's offset when the task began
}

// Changes implements Operator.
func (p *position) Changes(emit func(key, value []byte)) {
	if r := &p.reading; r.tracked && r.next != r.committed {
		emit(nil, binary.LittleEndian.AppendUint64(r.topic[:len(r.topic):len(r.topic)], uint64(r.next)))
	}
}

// Settle implements Operator.
func (p *position) Settle(committed bool) {
	r := &p.reading
	if !committed {
		r.next = r.committed
		return
	}
	r.committed = r.next
}

// Restore implements Operator.
func (p *position) Restore(key, value []byte) error {
	switch {
	case len(key) > 0:
		return fmt.Errorf("position: got a name of %d bytes, want none", len(key))
	case value == nil:
		p.reading = reading{}
		return nil
	case len(value) != 24:
		return fmt.Errorf("position: got %d bytes, want 24", len(value))
	}
	next := int64(binary.LittleEndian.Uint64(value[16:]))
	if next < 0 {
		return fmt.Errorf("position: got offset %d, want 0 or more", next)
	}
	p.reading = reading{topic: [16]byte(value), next: next, committed: next, known: true}
	return nil
}

// Len implements Operator.
func (p *position) Len() int {
	if p.reading.known {
		return 1
	}
	return 0
}

// Bytes implements Operator.
func (p *position) Bytes() int64 { return 24 * int64(p.Len()) }

// Begin says where records will come from; it follows the last Restore. The task must not be stepped after an error,
// which says what an operator can do, and not when the group's offset has to be moved first.
func (t *Task) Begin(o Origin) (*Move, error) {
	r := &t.reading
	if o.TopicID == [16]byte{} {
		return nil, nil
	}
	r.tracked, r.origin = true, o.Committed
	switch at, old := t.cfg.Partition, r.known && r.topic != o.TopicID; {
	case r.known && !old:
		return t.goOn(o)
	case o.outlived(old):
		return &Move{o.Start,
			"it belonged to a topic that has been deleted and created again; the new one is read from its start"}, nil
	case old && o.Committed >= 0 && o.Of == [16]byte{}:
		return nil, fmt.Errorf("offset %d of group %s belongs to another topic %s than is there now "+
			"(id %x, was %x: it has been deleted and created again, or the cluster is another). %s",
			o.Committed, o.Group, at.Topic, o.TopicID, r.topic,
			o.command("--delete-offsets", at, "to read the topic from its start"))
	default: // of a topic that has not been read, or by a version that did not write positions
		r.topic, r.known, r.replaced = o.TopicID, true, old
		r.next = o.Committed
		if o.Committed < 0 {
			r.next = o.Start
		}
		r.committed = r.next
		return nil, nil
	}
}

// outlived says whether the group's offset is of a topic that is gone: brokers drop the offsets of a topic that is
// deleted, but take one by its name that a member commits a moment later. Within a cluster the id of a topic changes
// in no other way, so nothing of the new one has been read. Where results are of the old one an offset beyond the
// start of the new is no better: no results go with it.
func (o *Origin) outlived(old bool) bool {
	return o.Committed >= 0 && o.Of != [16]byte{} && (o.Of != o.TopicID || old && o.Committed > o.Start)
}

// goOn compares the group's offset with how far the results are. Both are written by one transaction. Should a broker
// commit the offset of an epoch whose results and state it aborted (a marker of an earlier transaction, sent again, can
// do that where brokers do not check its epoch), then the epoch is nowhere, and its records are read again.
func (t *Task) goOn(o Origin) (*Move, error) {
	at, next := t.cfg.Partition, t.reading.next
	right := o.command(fmt.Sprintf("--reset-offsets --to-offset %d", next), at, "to go on where the results end")
	switch {
	case o.Committed < 0 && next <= o.Start:
		return nil, nil // everything after it has been deleted or was never read
	case o.Committed < 0 && next <= o.End:
		return &Move{next, "it was lost; the task goes on where the results end"}, nil
	case o.Committed < next:
		return nil, fmt.Errorf("offset %d of group %s in %s/%d is before %d, up to where the results are: "+
			"reading from there would count records twice. %s. docs/operating.md says how to compute results again",
			o.Committed, o.Group, at.Topic, at.Partition, next, right)
	case o.Committed > next && o.Own && next >= o.Start && next <= o.End:
		return &Move{next, "it was one whose epoch is not there; the task goes on where the results end"}, nil
	case o.Committed > next && o.Committed > o.End:
		return nil, fmt.Errorf("offset %d of group %s in %s/%d is behind the end of the log (%d). %s", o.Committed, o.Group,
			at.Topic, at.Partition, o.End, right)
	}
	return nil, nil
}

// command is what an operator can type.
func (o *Origin) command(what string, at Partition, why string) string {
	return fmt.Sprintf("Stop every stream process and, %s, run kafka-consumer-groups.sh --group %s %s --topic %s:%d --execute",
		why, o.Group, what, at.Topic, at.Partition)
}

// follows says whether the records of c come after those that were stepped.
func (t *Task) follows(c *Chunk) error {
	r := &t.reading
	if !r.tracked || c.Rewound || c.first() >= r.next {
		return nil
	}
	return fmt.Errorf("offset %d of %s/%d came again: the results are up to %d. "+
		"The log or the group's offset was changed; stop every stream process and set the offset to where unread records "+
		"begin (kafka-consumer-groups.sh --reset-offsets)",
		c.first(), c.Partition.Topic, c.Partition.Partition, r.next)
}

// advance notes the records of c, and counts the offsets that lie before them and can never be read.
func (t *Task) advance(c *Chunk) {
	r := &t.reading
	if !r.tracked {
		return
	}
	from := r.next
	if !c.Rewound {
		if r.origin > from {
			t.tally.Skipped += uint64(r.origin - from)
			from = r.origin
		}
		if c.LogStart > from {
			t.tally.Deleted += uint64(c.LogStart - from)
		}
	}
	r.next = c.last() + 1
}

package pipeline

import (
	"fmt"

	"github.com/vigie-io/vigie/internal/pipeline/state"
)

// operatorKind is the first byte of an operator's keys. It is part of the format of state topics, and never used again
// for another operator.
type operatorKind byte

const (
	kindWatermark operatorKind = 1 // watermark.go
	kindWindows   operatorKind = 2 // package windowed
	kindPosition  operatorKind = 3 // position.go
	kindClock     operatorKind = 4 // silence.go
	kindRates     operatorKind = 5 // rates.go
	kindCounters  operatorKind = 6 // package counters
	kindAlerts    operatorKind = 7 // package alerting
)

// stateKeyVersion is the second byte of every key. A change of it makes all older keys garbage that compaction keeps,
// so that a new version has to write tombstones for the old.
const stateKeyVersion = 1

// operator is an Operator as a task keeps it. version is the first byte of its values.
type operator struct {
	state.Operator
	kind    operatorKind
	version byte
}

// runNewer is what to do about state of a version that this one does not know.
const runNewer = "run the one that wrote it, or a later one"

// Restore takes one record of the task's state partition; they come in order, before the first Step. After an error
// the task is as if the record had not come. It retains neither slice.
func (t *Task) Restore(key, value []byte) error {
	if len(key) < 2 {
		return fmt.Errorf("state key %x: want a kind and a version before the key itself", key)
	}
	o := t.operator(operatorKind(key[0]))
	switch {
	case (o == nil || key[1] != stateKeyVersion) && value == nil:
		return nil // what a newer version has removed, this one need not know
	case o == nil:
		return fmt.Errorf("state of kind %d is not known to this version of Vigie: %s", key[0], runNewer)
	case key[1] != stateKeyVersion:
		return fmt.Errorf("state key of kind %d has version %d, this version of Vigie knows %d: %s",
			key[0], key[1], stateKeyVersion, runNewer)
	case value == nil:
		return o.Restore(key[2:], nil)
	case len(value) == 0:
		return fmt.Errorf("state value of kind %d is empty: want a version first", key[0])
	case value[0] != o.version:
		return fmt.Errorf("state value of kind %d has version %d, this version of Vigie knows %d: %s",
			key[0], value[0], o.version, runNewer)
	}
	return o.Restore(key[2:], value[1:])
}

func (t *Task) operator(kind operatorKind) *operator {
	for i := range t.operators {
		if t.operators[i].kind == kind {
			return &t.operators[i]
		}
	}
	return nil
}

// drainState appends the operators' changes to out.
func (t *Task) drainState(out *Outputs) {
	for i := range t.operators {
		o := &t.operators[i]
		o.Changes(func(key, value []byte) {
			m := Message{Topic: t.cfg.Config.StateTopics[t.cfg.Signal], Partition: t.cfg.Partition.Partition}
			m.Key = out.arena.join([]byte{byte(o.kind), stateKeyVersion}, key)
			if value != nil {
				m.Value = out.arena.join([]byte{o.version}, value)
			}
			t.tally.StateRecords++
			t.tally.StateBytes += uint64(len(m.Key) + len(m.Value))
			out.State = append(out.State, m)
		})
	}
}

func (t *Task) settleState(committed bool) {
	for i := range t.operators {
		t.operators[i].Settle(committed)
	}
}

// stateKeys is the number of keys of all operators.
func (t *Task) stateKeys() (n int) {
	for i := range t.operators {
		n += t.operators[i].Len()
	}
	return n
}

// stateBytes is what the keys and values of all operators take in the log.
func (t *Task) stateBytes() (n int64) {
	for i := range t.operators {
		n += t.operators[i].Bytes() + int64(t.operators[i].Len())*stateOverhead
	}
	return n
}

// stateOverhead are kind and version of a key, and the version of its value.
const stateOverhead = 3

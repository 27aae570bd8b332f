// Package state is what keyed state of a task has in common: the Operator that keeps it, the Undo of an aborted epoch,
// and pieces of the format of keys and values (docs/format/state.md). Which operators there are, package pipeline says.
package state

// Operator is keyed state that a task derives from its records and that outlives the task: what changed in an epoch is
// written to the partition's change log inside the epoch's transaction, and a task that takes the partition over
// begins with it. One goroutine uses it; it needs no locks. Changes of equal state are equal, in the same order.
//
// Its life is Restore…, and then rounds of (the task's events) → Changes → Settle. On a cold path only: an event that
// changes no key must cost an operator nothing here.
type Operator interface {
	// Changes calls emit for every key that changed since the last committed epoch, with what it is worth now; a nil
	// value says that the key is gone. emit copies. Key and value are together at most 1 MiB.
	Changes(emit func(key, value []byte))
	// Settle ends the epoch. With committed, what Changes told is in the log for good. Without, everything returns to
	// the last committed epoch, told or not: operators that change state in place keep an Undo for that.
	Settle(committed bool)
	// Restore takes one record of the log, before the first event; a nil value says that the key is gone. Of several
	// records with one key the last counts. It retains neither slice. An error says what is wrong with the bytes; the
	// operator is then as if the record had not come.
	Restore(key, value []byte) error
	// Len is the number of keys, Bytes what they and their values take in the log. O(keys) at most.
	Len() int
	Bytes() int64
}

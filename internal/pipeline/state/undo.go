package state

import "fmt"

// Undo remembers what the keys that an epoch changed were worth before it, so that an aborted epoch costs as much as
// its own changes and not a reading of the whole log. The zero value is ready. One goroutine uses it.
type Undo struct {
	notes []undoNote
	bytes []byte
}

type undoNote struct {
	key, value int // lengths; they lie in bytes one after the other
	gone       bool
}

// Note is to be called before the first change to a key in an epoch, with what the key is worth as its operator writes
// it, or nil when it does not exist. To call it again for the same key does no harm. It copies.
func (u *Undo) Note(key, value []byte) {
	u.notes = append(u.notes, undoNote{key: len(key), value: len(value), gone: value == nil})
	u.bytes = append(append(u.bytes, key...), value...)
}

// Back gives every noted key its old value through restore, an operator's Restore, the latest note first, so that a key
// noted twice ends as it was at the first. Then it forgets the notes.
func (u *Undo) Back(restore func(key, value []byte) error) {
	end := len(u.bytes)
	if u.bytes == nil {
		u.bytes = []byte{} // an empty value is not nil
	}
	for i := len(u.notes) - 1; i >= 0; i-- {
		n := u.notes[i]
		value := u.bytes[end-n.value : end]
		key := u.bytes[end-n.value-n.key : end-n.value]
		end -= n.key + n.value
		if n.gone {
			value = nil
		}
		if err := restore(key, value); err != nil {
			panic(fmt.Sprintf("BUG: state key %x: the operator refuses what it wrote: %v", key, err))
		}
	}
	u.Clear()
}

// maxUndo bounds the memory kept for the next epoch, in bytes.
const maxUndo = 1 << 20

// Clear forgets the notes, after an epoch that held.
func (u *Undo) Clear() {
	u.notes, u.bytes = u.notes[:0], u.bytes[:0]
	if cap(u.bytes) > maxUndo {
		*u = Undo{}
	}
}

package series

// WeakTable is a table with a hash of the test's own, as bad as it likes.
func WeakTable[V any](hash func(key []byte) uint64) *Table[V] { return &Table[V]{weak: hash} }

// LongestSearch is the most slots that a search of a key, or of none, can look at.
func (t *Table[V]) LongestSearch() (longest int) {
	run := 0
	for range 2 { // runs wrap around
		for i := range t.slots {
			if run++; t.slots[i] == 0 {
				run = 0
			}
			longest = max(longest, run)
		}
	}
	return longest
}

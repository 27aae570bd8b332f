// Package series identifies time series: sorted labels, their canonical bytes, and a stable id.
//
// A series is (kind, metric name, labels) inside one tenant. Its canonical key is a byte string that two
// equal series share and two different series never do (docs/format/series.md). In a process, keys are compared whole
// (Table). In storage, where they cannot be, a series' identity is its ID, a 128-bit hash of the key.
//
// The package does not know tenants, samples or storage.
package series

import (
	"cmp"
	"fmt"
)

// Label is one name and value. Both are valid UTF-8; Name is not empty.
type Label struct {
	Name, Value string
}

// Labels are sorted by Name in byte order, names are unique, and no value is empty
// (an empty value is the same as no label, as in Prometheus).
type Labels []Label

// ID is the identity of a series in storage: the 128-bit hash of its canonical key.
// The zero ID names no series: rows that stand for a group of series carry it.
type ID struct {
	Hi, Lo uint64
}

// Compare orders IDs as unsigned 128-bit numbers (ClickHouse's order of UInt128): -1, 0 or +1.
func (id ID) Compare(other ID) int {
	if c := cmp.Compare(id.Hi, other.Hi); c != 0 {
		return c
	}
	return cmp.Compare(id.Lo, other.Lo)
}

// String is the number in 32 lower-case hexadecimal digits.
func (id ID) String() string {
	return fmt.Sprintf("%016x%016x", id.Hi, id.Lo)
}

// Package series identifies time series: sorted labels, their canonical bytes, and a stable id.
//
// A series is (kind, metric name, labels) inside one tenant. Its canonical key is a byte string that two
// equal series share and two different series never do. Its ID is a 128-bit hash of that key: the low
// 64 bits index in-process tables, which always compare the whole key on a hit; all 128 bits are the
// identity in storage, where no key can be compared.
//
// The package does not know tenants, samples or storage.
package series

// Label is one name and value. Both are valid UTF-8; Name is not empty.
type Label struct {
	Name, Value string
}

// Labels are sorted by Name in byte order, names are unique, and no value is empty
// (an empty value is the same as no label, as in Prometheus).
type Labels []Label

// ID is the identity of a series in storage: the 128-bit hash of its canonical key.
type ID struct {
	Hi, Lo uint64
}

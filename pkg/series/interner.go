package series

// Interner gives equal byte strings one shared string. It holds at most two generations of limit strings
// each: when the newer is full the older is forgotten, so strings in use stay and garbage goes. Forgetting
// never changes a result; it only costs a copy. Not safe for concurrent use.
type Interner struct {
	limit    int
	young    map[string]string
	previous map[string]string
}

// NewInterner returns an Interner with generations of limit strings, limit ≥ 1.
func NewInterner(limit int) *Interner {
	return &Interner{limit: max(limit, 1), young: make(map[string]string)}
}

// Bytes returns the string equal to b. No allocation when it is known; b is not retained.
func (in *Interner) Bytes(b []byte) string {
	if s, ok := in.young[string(b)]; ok {
		return s
	}
	if s, ok := in.previous[string(b)]; ok {
		return in.keep(s)
	}
	return in.keep(string(b))
}

// Len is the number of strings held in both generations; one in both counts twice.
func (in *Interner) Len() int { return len(in.young) + len(in.previous) }

func (in *Interner) keep(s string) string {
	if len(in.young) >= in.limit {
		in.previous, in.young = in.young, make(map[string]string, in.limit)
	}
	in.young[s] = s
	return s
}

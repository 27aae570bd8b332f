package kafka

const (
	firstFetch     = 1 << 20
	leastFetch     = 64 << 10 // a broker sends a larger batch whole
	partitionFetch = 4 << 20
	recordOverhead = 200 // bytes beside its content of a record that comes by itself
)

// appetite chooses how much a fetch asks for. Brokers count compressed bytes, and a backlog may unpack to twenty times
// as much: what comes has to stay near the budget once it is unpacked. A fetch that was too large makes the next ones
// smaller at once; they double while they are full and less than half of it.
type appetite struct {
	budget int64 // unpacked bytes of a fetch
	limit  int64 // compressed bytes to ask for
}

func newAppetite(budget int64) appetite {
	return appetite{budget: budget, limit: min(budget, firstFetch)}
}

// adapt takes how much the largest of the last fetches was when unpacked, and says whether the limit has changed.
func (a *appetite) adapt(unpacked int64) bool {
	before := a.limit
	switch {
	case unpacked > a.budget:
		a.limit = max(a.limit*a.budget/unpacked, leastFetch)
	case unpacked >= a.limit/2 && unpacked <= a.budget/2:
		a.limit = min(2*a.limit, a.budget)
	}
	return a.limit != before
}

// limits are the options, and later the update, of a client.
func (a *appetite) limits() (fetch, partition int32) {
	return int32(a.limit), int32(min(a.limit, partitionFetch))
}

// adaptFetches adapts the client's fetches to what the largest of the last ones took in memory.
func (s *Session) adaptFetches(unpacked int64) {
	if s.appetite.adapt(unpacked) {
		s.group.Client().UpdateFetchMaxBytes(s.appetite.limits())
	}
}

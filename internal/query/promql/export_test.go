package promql

// Sharing is how many requests wait for queries that run.
func (s *Service) Sharing() (n int) {
	s.sharing.mu.Lock()
	defer s.sharing.mu.Unlock()
	for _, f := range s.sharing.flights {
		n += f.waiting
	}
	return n
}

// Forget drops what is kept of series that selectors mean, as time does.
func (s *Service) Forget() { s.lists = newLists(s.store, s.now) }

// Listed is how much is kept of them.
func (s *Service) Listed() int { return s.lists.held }

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

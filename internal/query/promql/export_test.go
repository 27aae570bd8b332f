package promql

import (
	"net/http"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
)

// Upstream is Prometheus' API over another storage.
func (s *Service) Upstream(engine promql.QueryEngine, of storage.SampleAndChunkQueryable) http.Handler {
	return newAPI(s, engine, of)
}

// Sharing is how many requests wait for queries that run.
func (s *Service) Sharing() (n int) {
	s.sharing.mu.Lock()
	defer s.sharing.mu.Unlock()
	for _, f := range s.sharing.flights {
		n += f.waiting
	}
	return n
}

// Forget drops what is kept of progress, of metrics and of series that selectors mean, as time does.
func (s *Service) Forget() {
	s.lists = newLists(s.store, s.now)
	s.catalogs.forget()
	s.progress.forget()
}

func (c *cache[V]) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.entries)
}

// ReadAtOnce has so many series read in one turn, however many panes they have.
func (s *Service) ReadAtOnce(series int) { s.seriesAtOnce = func(int) int { return series } }

// Listed is how much is kept of them.
func (s *Service) Listed() int { return s.lists.held }

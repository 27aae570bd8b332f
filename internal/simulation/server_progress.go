package simulation

import (
	"maps"

	"github.com/vigie-io/vigie/internal/coarse"
	"github.com/vigie-io/vigie/internal/pipeline"
)

// coarseTables are the ingest tables of what is merged.
var coarseTables = []string{coarse.TableMinutes, coarse.TableProgress, coarse.TableMerged}

// applyProgress takes in how far the tiers reach: the finest or the wider ones, and all of them before these had
// progress of their own. The wider ones are read no further than the finest: so far rows for all tiers are stored.
func (s *Server) applyProgress(table string, b *pipeline.ProgressRows) {
	told := s.progress
	if table == coarse.TableProgress {
		told = s.coarse
	}
	for i := range b.Topic {
		key := progressKey{b.Topic[i], b.Partition[i], b.Tenant[i]}
		told[key] = max(told[key], b.Time[i])
		if b.Tenant[i] != "" {
			continue
		}
		finest := s.progress[key]
		wider := finest
		if !s.earlier {
			wider = min(finest, s.coarse[key])
		}
		for n, millis := range [...]int64{finest, wider, wider} {
			s.claims[n].report(place{b.Topic[i], b.Partition[i]}, millis, s.count)
		}
	}
}

// reached is up to where the partitions of a results topic are merged and stored.
func (s *Server) reached(topic string) map[int32]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.merged.of(topic)
}

// migrate makes the schema the present one, when no insert is under way.
func (s *Server) migrate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.earlier = false
	maps.Copy(s.coarse, s.progress)
}

// watermark is the greatest that was told of a tenant, Unix milliseconds; 0 when none was.
func (s *Server) watermark(tenant string) (millis int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, at := range s.progress {
		if key.tenant == tenant {
			millis = max(millis, at)
		}
	}
	return millis
}

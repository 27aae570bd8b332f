package simulation

import (
	"maps"

	"github.com/vigie-io/vigie/internal/coarse"
	"github.com/vigie-io/vigie/internal/pipeline"
)

// coarseTables are the ingest tables of what is merged.
var coarseTables = []string{coarse.TableMinutes, coarse.TableProgress, coarse.TableMerged}

// applyProgress takes in how far the tiers reach: the finest or the wider ones, and all of them before these had
// progress of their own.
func (s *Server) applyProgress(table string, b *pipeline.ProgressRows) {
	told, claims := s.progress, s.claims[:1]
	if table == coarse.TableProgress {
		told, claims = s.coarse, s.claims[1:]
	} else if s.earlier {
		claims = s.claims[:]
	}
	for i := range b.Topic {
		key := progressKey{b.Topic[i], b.Partition[i], b.Tenant[i]}
		told[key] = max(told[key], b.Time[i])
		if b.Tenant[i] != "" {
			continue
		}
		for n := range claims {
			claims[n].report(place{b.Topic[i], b.Partition[i]}, b.Time[i], s.count)
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

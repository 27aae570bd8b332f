package simulation

import (
	"fmt"
	"slices"
)

// Reach lists how far tiers reach, and how far results partitions are merged.
func (s *Server) Reach() (lines []string) {
	for table, told := range map[string]map[progressKey]int64{"progress": s.progress, "coarse_progress": s.coarse} {
		for key, at := range told {
			lines = append(lines, fmt.Sprintf("%s %q %s %d %d", table, key.tenant, key.topic, key.partition, at))
		}
	}
	for key, next := range s.merged {
		lines = append(lines, fmt.Sprintf("merged %s %d %d", key.topic, key.partition, next))
	}
	slices.Sort(lines)
	return lines
}

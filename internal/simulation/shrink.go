package simulation

import "slices"

// Shrink deletes statements, and makes the shape smaller, while the scenario still fails. It gives up after so many
// runs. A failure that comes only sometimes needs a fails that tries more than once.
func Shrink(s *Scenario, runs int, fails func(*Scenario) bool) *Scenario {
	attempt := func(candidate *Scenario) bool {
		if runs--; runs < 0 || !fails(candidate) {
			return false
		}
		s = candidate
		return true
	}
	for size := max(1, len(s.Steps)/2); ; size /= 2 {
		for from := 0; from < len(s.Steps); {
			if !attempt(s.without(from, min(from+size, len(s.Steps)))) {
				from += size
			}
		}
		if size <= 1 {
			break
		}
	}
	for _, smaller := range []func(*Shape) bool{
		func(s *Shape) bool { s.Brokers--; return s.Brokers > 0 },
		func(s *Shape) bool { s.Workers--; return s.Workers > 0 },
		func(s *Shape) bool { s.Sinks--; return s.Sinks > 0 },
		func(s *Shape) bool { s.Windows--; return s.Windows >= 0 },
		func(s *Shape) bool { s.Results /= 2; return s.Results > 0 },
		func(s *Shape) bool { was := s.Behind; s.Behind = 0; return was > 0 },
		func(s *Shape) bool { s.Partitions--; return s.Partitions > 0 },
	} {
		for {
			candidate := *s
			if !smaller(&candidate.Shape) || !attempt(&candidate) {
				break
			}
		}
	}
	return s
}

func (s *Scenario) without(from, to int) *Scenario {
	out := *s
	out.Steps = slices.Delete(slices.Clone(s.Steps), from, to)
	return &out
}

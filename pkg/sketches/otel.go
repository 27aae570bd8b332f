package sketches

// Exponential is an OpenTelemetry exponential histogram of scale 6 without its sum, minimum and maximum, which
// a Sketch does not know. Its zero threshold is 0.
type Exponential struct {
	Scale     int32 // Scale
	ZeroCount float64
	Count     float64
	Positive  Buckets
	Negative  Buckets
}

// Buckets are counts of adjacent buckets: Counts[j] is γ^(Offset+j) < |v| ≤ γ^(Offset+j+1). Neither end is
// zero; without any count both fields are zero.
type Buckets struct {
	Offset int32
	Counts []float64
}

// OTel returns the sketch as an exponential histogram in new memory. Counts are whole numbers unless weights
// were not.
func (s *Sketch) OTel() Exponential {
	return Exponential{Scale: Scale, ZeroCount: s.zero, Count: s.Count(), Positive: s.Positive(), Negative: s.Negative()}
}

// Positive returns the counts of positive values in new memory.
func (s *Sketch) Positive() Buckets { return s.positive.buckets() }

// Negative returns the counts of negative values, by magnitude, in new memory.
func (s *Sketch) Negative() Buckets { return s.negative.buckets() }

func (s *store) buckets() Buckets {
	used, least, greatest := s.extent()
	if used == 0 {
		return Buckets{}
	}
	b := Buckets{Offset: least, Counts: make([]float64, greatest-least+1)}
	for i, n := range s.all() {
		b.Counts[i-least] = n
	}
	return b
}

package sketches_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/vigie-io/vigie/pkg/sketches"
)

// latencies is a lognormal sample, median 50 ms, as long as a power of two.
func latencies(n int) []float64 {
	random := rand.New(rand.NewPCG(3, 4))
	values := make([]float64, n)
	for i := range values {
		values[i] = 0.05 * math.Exp(random.NormFloat64()*0.5)
	}
	return values
}

// Target: at most 10 ns (design page 5).
func BenchmarkAddWarm(b *testing.B) {
	values := latencies(4096)
	var s sketches.Sketch
	for _, v := range values {
		s.Add(v)
	}
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		s.Add(values[i&4095])
		i++
	}
}

func BenchmarkAddNWarm(b *testing.B) {
	values := latencies(4096)
	var s sketches.Sketch
	for _, v := range values {
		s.Add(v)
	}
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		s.AddN(values[i&4095], 3)
		i++
	}
}

// One epoch of a series with few values: they stay in the list.
func BenchmarkFew(b *testing.B) {
	values := latencies(4096)
	var s sketches.Sketch
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		if i%20 == 0 {
			s.Reset()
		}
		s.Add(values[i&4095])
		i++
	}
}

// New memory for every sketch, 30 values each: list, then window. ns/op is per value.
func BenchmarkNewOf30(b *testing.B) {
	values := latencies(4096)
	s := new(sketches.Sketch)
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		if i%30 == 0 {
			s = new(sketches.Sketch)
		}
		s.Add(values[i&4095])
		i++
	}
}

func BenchmarkMerge1000(b *testing.B) {
	var s, other sketches.Sketch
	for _, v := range latencies(1000) {
		other.Add(v)
	}
	s.Merge(&other)
	b.ReportAllocs()
	for b.Loop() {
		s.Merge(&other)
	}
}

func BenchmarkAppendDD(b *testing.B) {
	for name, n := range map[string]int{"20": 20, "1000": 1000} {
		b.Run(name, func(b *testing.B) {
			var s sketches.Sketch
			for _, v := range latencies(n) {
				s.Add(v)
			}
			var state []byte
			b.ReportAllocs()
			for b.Loop() {
				state = s.AppendDD(state[:0])
			}
			b.ReportMetric(float64(len(state)), "bytes/state")
		})
	}
}

func BenchmarkDecodeDD1000(b *testing.B) {
	var s sketches.Sketch
	for _, v := range latencies(1000) {
		s.Add(v)
	}
	state := s.AppendDD(nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.DecodeDD(state); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkQuantile(b *testing.B) {
	var s sketches.Sketch
	for _, v := range latencies(1000) {
		s.Add(v)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Quantile(0.99); err != nil {
			b.Fatal(err)
		}
	}
}

package e2e

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Figures are measured when envFigures is set; `make figures` does that. They say what the machine does meanwhile, and
// fail only where a promise does not depend on it: memory, and counts.
const (
	envFigures = "VIGIE_FIGURES"
	envBacklog = "VIGIE_FIGURES_BACKLOG" // events; default 20 million
	envPace    = "VIGIE_FIGURES_RATE"    // events a second under restarts and beside a backfill; default 50,000
	envStrikes = "VIGIE_FIGURES_KILLS"   // default 20

	figureEvents = 20 // events of one record
)

func figures(t *testing.T) {
	t.Helper()
	if os.Getenv(envFigures) == "" {
		t.Skipf("measures for minutes: %s=1 runs it", envFigures)
	}
	load, _ := os.ReadFile("/proc/loadavg")
	t.Logf("load of the machine before: %s", strings.TrimSpace(string(load)))
	t.Cleanup(func() {
		load, _ := os.ReadFile("/proc/loadavg")
		t.Logf("and after: %s", strings.TrimSpace(string(load)))
	})
}

// payloads are records of figureEvents events of one tenant each, without times: they are of when they are sent.
func payloads() (out [][]byte) {
	random := rand.New(rand.NewPCG(5, 6))
	for range 200 {
		var b strings.Builder
		for range figureEvents {
			n := random.IntN(400)
			fmt.Fprintf(&b, `{"name":"%s","value":%v,"labels":{"service":"svc-%d","route":"/r/%d","instance":"i-%d"}}`+"\n",
				latency, float64(1+random.IntN(4096))/1024, n%10, n/10%10, n/100)
		}
		out = append(out, []byte(b.String()))
	}
	return out
}

func (in *installation) client(t testing.TB, options ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append(options, kgo.SeedBrokers(strings.Split(in.broker.Addr, ",")...))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// samples are durations, safe for concurrent use.
type samples struct {
	mu    sync.Mutex
	taken map[time.Duration]int
	count int
}

func newSamples() *samples { return &samples{taken: map[time.Duration]int{}} }

func (s *samples) add(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken[d.Round(time.Millisecond)]++
	s.count++
}

func (s *samples) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken, s.count = map[time.Duration]int{}, 0
}

func (s *samples) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	sorted := slices.Sorted(maps.Keys(s.taken))
	at := func(q float64) time.Duration {
		seen := 0
		for _, d := range sorted {
			if seen += s.taken[d]; float64(seen) >= q*float64(s.count) {
				return d
			}
		}
		return 0
	}
	return fmt.Sprintf("p50 %s, p99 %s, most %s (%d samples)", at(0.5), at(0.99), at(1), s.count)
}

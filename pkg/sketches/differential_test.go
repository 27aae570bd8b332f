package sketches_test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"github.com/vigie-io/vigie/internal/testkit"
	"github.com/vigie-io/vigie/pkg/sketches"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// levels are the quantiles compared, also as parameters of ClickHouse's column type.
var levels = []float64{0, 0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1}

// samples are distributions at which implementations go wrong: below 1 (ClickHouse's own states err there), exact
// borders, negatives and zeros, the ends of the range, weights, nothing.
func samples() map[string]*sketches.Sketch {
	random := rand.New(rand.NewPCG(7, 8))
	byName := map[string]*sketches.Sketch{}
	f := func(name string, n int, value func() float64) {
		s := new(sketches.Sketch)
		for range n {
			s.Add(value())
		}
		byName[name] = s
	}
	f("empty", 0, nil)
	f("one value", 1, func() float64 { return 0.13204 })
	f("few", 10, func() float64 { return math.Exp(random.NormFloat64()) })
	f("below one", 5000, func() float64 { return 0.01 * math.Exp(random.NormFloat64()) })
	f("large", 5000, func() float64 { return 1e9 * math.Exp(random.NormFloat64()*3) })
	f("all magnitudes", 5000, func() float64 { return math.Exp(random.Float64()*69 - 27.6) })
	f("both signs and zeros", 5000, func() float64 {
		return float64(random.IntN(3)-1) * math.Exp(random.NormFloat64())
	})
	f("negative", 300, func() float64 { return -math.Exp(random.NormFloat64()) })
	f("borders", 2000, func() float64 { return sketches.Bound(int32(random.IntN(400) - 200)) })
	f("beyond the range", 100, func() float64 { return math.Exp(random.NormFloat64() * 60) })
	weighted := new(sketches.Sketch)
	for range 100 {
		weighted.AddN(math.Exp(random.NormFloat64()), float64(1+random.IntN(1e6)))
	}
	byName["weights"] = weighted
	return byName
}

func TestClickHouse(t *testing.T) {
	server := testkit.ClickHouse(t, nil)
	t.Run("quantiles", func(t *testing.T) { testClickHouseQuantiles(t, server) })
	t.Run("merges", func(t *testing.T) { testClickHouseMerges(t, server) })
	t.Run("distinct", func(t *testing.T) { testClickHouseDistinct(t, server) })
}

// ClickHouse reads every state and takes the same quantiles from it as Go does.
func testClickHouseQuantiles(t *testing.T, server *testkit.Server) {
	t.Helper()
	for name, s := range samples() {
		if s.Count() == 0 {
			continue // quantiles of nothing: NaN there, ErrEmpty here; see the merges
		}
		answer := ask(t, server, fmt.Sprintf("SELECT finalizeAggregation(CAST(unhex('%x'), '%s')) FORMAT JSONCompactEachRow", s.AppendDD(nil), stateType()))
		var row [1][]float64
		if err := json.Unmarshal([]byte(answer), &row); err != nil {
			t.Fatalf("%s: %v in %s", name, err, answer)
		}
		for i, q := range levels {
			want, err := s.Quantile(q)
			if err != nil {
				t.Fatal(err)
			}
			if got := row[0][i]; math.Abs(got-want) > 1e-12*math.Abs(want) {
				t.Errorf("%s: quantile %v: got %v from ClickHouse, want %v", name, q, got, want)
			}
		}
	}
}

// ClickHouse merges states as Go does, bucket by bucket, and Go reads what it made.
func testClickHouseMerges(t *testing.T, server *testkit.Server) {
	t.Helper()
	var names, states []string
	byName := samples()
	for name, s := range byName {
		names = append(names, name)
		states = append(states, fmt.Sprintf("'%x'", s.AppendDD(nil)))
	}
	merged := func(states ...string) *sketches.Sketch {
		t.Helper()
		answer := ask(t, server, fmt.Sprintf("SELECT hex(quantilesDDMergeState(%s)(CAST(unhex(s), '%s'))) FROM (SELECT arrayJoin([%s]) AS s)",
			parameters(), stateType(), strings.Join(states, ",")))
		raw, err := hex.DecodeString(answer)
		if err != nil {
			t.Fatalf("%v in %s", err, answer)
		}
		s := new(sketches.Sketch)
		if n, err := s.DecodeDD(raw); err != nil || n != len(raw) {
			t.Fatalf("read ClickHouse's state %s: %d, %v, want %d bytes read", answer, n, err, len(raw))
		}
		return s
	}
	check := func(name string, got, want *sketches.Sketch) {
		t.Helper()
		if g, w := hex.EncodeToString(got.AppendDD(nil)), hex.EncodeToString(want.AppendDD(nil)); g != w {
			t.Errorf("%s: got state %s from ClickHouse, want %s", name, g, w)
		}
	}
	all := new(sketches.Sketch)
	for i, name := range names {
		check(name, merged(states[i]), byName[name])
		all.Merge(byName[name])
		twice := new(sketches.Sketch)
		twice.Merge(byName[name])
		twice.Merge(byName[name])
		check(name+" twice", merged(states[i], states[i]), twice)
	}
	check("all", merged(states...), all)
}

// parameters are those of the aggregate: the accuracy first, digit by digit, then the levels.
func parameters() string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(append([]float64{sketches.Alpha}, levels...)), " ", ", "), "[]")
}

func stateType() string { return "AggregateFunction(quantilesDD(" + parameters() + "), Float64)" }

func ask(t *testing.T, server *testkit.Server, sql string) string {
	t.Helper()
	response, err := http.Post(server.URL(), "text/plain", strings.NewReader(sql))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK {
		t.Fatalf("%.200s: %s: %s", sql, response.Status, body)
	}
	return strings.TrimSpace(string(body))
}

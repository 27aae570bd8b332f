package rules_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/pkg/rules"
	"github.com/vigie-io/vigie/pkg/sketches"
)

// Next in a row says what a loop over all past steps says: firing needs the condition for For, ending needs it clear
// for ClearAfter, and Due is when it changes by itself.
func TestLifecycle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		life := rules.Lifecycle{
			For:        time.Duration(rapid.IntRange(0, 4).Draw(t, "for")) * time.Second,
			ClearAfter: time.Duration(rapid.IntRange(0, 4).Draw(t, "clear after")) * time.Second,
		}
		var s rules.Status
		firing := false
		held, cleared := int64(-1), int64(-1) // since when
		for at := int64(1e9); at < 30e9; at += 1e9 {
			holds, clear := rapid.Bool().Draw(t, "holds"), rapid.Bool().Draw(t, "clear")
			due := life.Due(s)
			before := s
			s = life.Next(s, at, holds, clear)
			if firing {
				held = -1
				if holds || !clear {
					cleared = -1
				} else if cleared < 0 {
					cleared = at
				}
				if cleared >= 0 && at-cleared >= int64(life.ClearAfter) {
					firing, cleared = false, -1
				}
			} else {
				if !holds {
					held = -1
				} else if held < 0 {
					held = at
				}
				if held >= 0 && at-held >= int64(life.For) {
					firing = true
				}
			}
			if (s.State == rules.Firing) != firing || s.State == rules.Firing && s.Fired > at {
				t.Fatalf("at %d: got %+v, want firing %v", at, s, firing)
			}
			if before.State == rules.Pending && holds && (s.State == rules.Firing) != (at >= due) {
				t.Fatalf("at %d: got %+v, want the change at %d", at, s, due)
			}
			if before.Clear != 0 && clear && !holds && (s.State == rules.Inactive) != (at >= due) {
				t.Fatalf("at %d: got %+v, want it to end at %d", at, s, due)
			}
			back, rest, err := rules.DecodeStatus(append(s.AppendBinary(nil), 7))
			if err != nil || back != s || len(rest) != 1 {
				t.Fatalf("got %+v, %v, want %+v back", back, err, s)
			}
		}
	})
	if due := (rules.Lifecycle{}).Due(rules.Status{}); due != math.MaxInt64 {
		t.Errorf("an inactive alert: got due at %d, want never", due)
	}
	for _, bad := range []string{"", "\x03" + string(make([]byte, 24)), "\x01" + string(make([]byte, 24)),
		"\x00\x01" + string(make([]byte, 23))} {
		if s, _, err := rules.DecodeStatus([]byte(bad)); err == nil {
			t.Errorf("%x: got %+v, want an error", bad, s)
		}
	}
}

func ExampleLifecycle() {
	life := rules.Lifecycle{For: 2 * time.Second, ClearAfter: time.Second}
	var s rules.Status
	for second, load := range []float64{80, 95, 96, 97, 85, 70, 60} {
		s = life.Next(s, int64(second+1)*1e9, load > 90, load < 75)
		fmt.Println(load, s.State)
	}
	// Output:
	// 80 inactive
	// 95 pending
	// 96 pending
	// 97 firing
	// 85 firing
	// 70 firing
	// 60 inactive
}

func TestMeasures(t *testing.T) {
	var now, before sketches.Sketch
	for range 99 {
		now.Add(1)
	}
	now.Add(100)
	before.Add(2)
	m := &rules.Measures{
		Seconds: 10,
		Now:     rules.Totals{Count: 100, Hits: 25, Sum: 199, Min: 1, Max: 100, Last: 3, Sketch: &now},
		Before:  rules.Totals{Count: 50, Sum: 100, Min: 2, Max: 2, Last: 2, Sketch: &before},
	}
	for text, want := range map[string]bool{
		"count == 100 && rate == 10 && sum == 199 && mean == 1.99": true,
		"min == 1 && max == 100 && last == 3 && share == 0.25":     true,
		"p50 < 1.1 && p90 < 1.1 && p999 < 1.1":                     true,
		"change.count == 1 && change.rate == 1":                    true,
		"change.mean < 0 && change.max == 49":                      true,
		"change.share > 0 || change.share <= 0":                    false, // before it was 0
		"has(count) && !has(change.share)":                         true,
	} {
		e := parse(t, text)
		if _, err := rules.NeedsOf(e.Fields()); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if got := e.Match(m); got != want {
			t.Errorf("%s: got %v, want %v", text, got, want)
		}
	}
	nothing := &rules.Measures{Seconds: 10}
	for text, want := range map[string]bool{"count == 0 && rate == 0 && sum == 0": true, "mean <= 0 || mean > 0": false,
		"p99 <= 0 || p99 > 0": false, "change.count > 0": false} {
		if got := parse(t, text).Match(nothing); got != want {
			t.Errorf("of nothing, %s: got %v, want %v", text, got, want)
		}
	}
	f := func(want rules.Needs, names ...string) {
		t.Helper()
		if got, err := rules.NeedsOf(names); err != nil || got != want {
			t.Errorf("%v: got %+v, %v, want %+v", names, got, err, want)
		}
	}
	f(rules.Needs{}, "count", "mean")
	f(rules.Needs{Quantiles: true}, "p99")
	f(rules.Needs{Before: true}, "change.sum")
	f(rules.Needs{Share: true, Before: true, Quantiles: true}, "change.p50", "change.share")
	if _, err := rules.NeedsOf([]string{"change.route"}); err == nil {
		t.Error("change.route: got no error")
	}
}

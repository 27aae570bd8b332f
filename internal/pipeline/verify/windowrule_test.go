package verify

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/internal/pipeline/rollup"
	"github.com/vigie-io/vigie/internal/pipeline/windowed"
	"github.com/vigie-io/vigie/pkg/windows"
)

// Dates that are looked for are those that the engine reckons, also where clocks change at midnight or dates are left
// out.
func TestDates(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom([]string{"UTC", "Europe/Paris", "America/Sao_Paulo", "America/St_Johns", "Asia/Beirut",
			"Africa/Cairo", "America/Havana",
			"Australia/Lord_Howe", "Pacific/Apia"}).Draw(t, "zone")
		unit := rapid.SampledFrom([]windows.Unit{windows.Day, windows.Week, windows.Month}).Draw(t, "unit")
		rule, err := newWindowRule(&rule{Declared: rollup.Declared{
			Name: "w", From: "logs", Window: &windowed.Window{Calendar: &windowed.Calendar{Unit: unit.String(), Zone: name}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		at := time.Date(rapid.IntRange(1990, 2030).Draw(t, "year"), time.Month(rapid.IntRange(1, 12).Draw(t, "month")),
			rapid.IntRange(1, 31).Draw(t, "day"),
			rapid.IntRange(0, 23).Draw(t, "hour"), rapid.IntRange(0, 59).Draw(t, "minute"), 0, 0, time.UTC)
		if rapid.Bool().Draw(t, "change") { // about when clocks change
			if _, end := at.In(rule.zone).ZoneBounds(); !end.IsZero() {
				at = end.Add(time.Duration(rapid.IntRange(-90, 90).Draw(t, "minutes")) * time.Minute)
			}
		}
		want := windows.Calendar{Unit: unit, Zone: rule.zone}.Assign(at.UnixNano())
		if got := rule.around(at.Unix()); len(got) != 1 || got[0] != (stretch{want.Start / 1e9, want.End / 1e9}) {
			t.Fatalf("%s of %s at %s: got %v, want %v", unit, name, at, got, want)
		}
	})
}

package windows_test

import (
	"testing"
	"time"
	_ "time/tzdata"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/pkg/windows"
)

func zone(t interface{ Fatal(...any) }, name string) *time.Location {
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

func TestCalendar(t *testing.T) {
	f := func(unit windows.Unit, name, at, start, end string) {
		t.Helper()
		parse := func(s string) int64 {
			p, err := time.Parse(time.RFC3339, s)
			if err != nil {
				t.Fatal(err)
			}
			return p.UnixNano()
		}
		got := windows.Calendar{Unit: unit, Zone: zone(t, name)}.Assign(parse(at))
		if want := (windows.Window{Start: parse(start), End: parse(end)}); got != want {
			t.Errorf("%s of %s in %s: got %s to %s, want %s to %s", unit, at, name,
				time.Unix(0, got.Start).UTC().Format(time.RFC3339), time.Unix(0, got.End).UTC().Format(time.RFC3339), start, end)
		}
	}
	f(windows.Day, "UTC", "2026-03-29T23:59:59Z", "2026-03-29T00:00:00Z", "2026-03-30T00:00:00Z")
	// Spring: a day of 23 hours; autumn: one of 25.
	f(windows.Day, "Europe/Paris", "2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z")
	f(windows.Day, "Europe/Paris", "2026-10-25T12:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z")
	// Half and quarter hours.
	f(windows.Day, "Asia/Kolkata", "2026-01-01T18:30:00Z", "2026-01-01T18:30:00Z", "2026-01-02T18:30:00Z")
	f(windows.Day, "Asia/Kathmandu", "2026-01-01T18:14:59Z", "2025-12-31T18:15:00Z", "2026-01-01T18:15:00Z")
	// A date that midnight is left out of begins at one; a date that never was is no window.
	f(windows.Day, "America/Sao_Paulo", "2018-11-04T12:00:00Z", "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z")
	f(windows.Day, "Pacific/Apia", "2011-12-31T12:00:00Z", "2011-12-31T10:00:00Z", "2012-01-01T10:00:00Z")
	// Midnight twice: the day begins with the first.
	f(windows.Day, "America/Havana", "2026-11-01T04:30:00Z", "2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z")
	f(windows.Day, "America/Havana", "2026-11-01T05:30:00Z", "2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z")
	f(windows.Week, "UTC", "2026-11-22T23:00:00Z", "2026-11-16T00:00:00Z", "2026-11-23T00:00:00Z")
	f(windows.Week, "Europe/Paris", "2026-11-22T23:00:00Z", "2026-11-22T23:00:00Z", "2026-11-29T23:00:00Z")
	f(windows.Month, "UTC", "2026-02-28T23:59:59Z", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z")
	f(windows.Month, "Europe/Paris", "2026-03-31T22:00:00Z", "2026-03-31T22:00:00Z", "2026-04-30T22:00:00Z")
	f(windows.Month, "UTC", "2025-12-31T00:00:00Z", "2025-12-01T00:00:00Z", "2026-01-01T00:00:00Z")
}

// Windows hold their time, are adjacent, and what begins one is a midnight or the end of a change of clocks.
func TestCalendarHolds(t *testing.T) {
	names := []string{"UTC", "Europe/Paris", "America/Sao_Paulo", "America/Havana", "Asia/Kolkata", "Asia/Beirut", "Pacific/Apia",
		"Australia/Lord_Howe", "Atlantic/Azores"}
	rapid.Check(t, func(t *rapid.T) {
		w := windows.Calendar{Unit: windows.Unit(rapid.IntRange(1, 3).Draw(t, "unit")),
			Zone: zone(t, rapid.SampledFrom(names).Draw(t, "zone"))}
		at := rapid.Int64Range(0, 4_000_000_000).Draw(t, "time") * 1e9
		got := w.Assign(at)
		if at < got.Start || at >= got.End {
			t.Fatalf("%v at %d: got %v, want it to hold the time", w, at, got)
		}
		if w.Assign(got.Start) != got || w.Assign(got.End-1) != got || w.Assign(got.End).Start != got.End ||
			w.Assign(got.Start-1).End != got.Start {
			t.Fatalf("%v: windows beside %v overlap or leave a gap", w, got)
		}
		if _, _, day := time.Unix(0, got.Start-1).In(w.Zone).Date(); w.Unit == windows.Day {
			if _, _, first := time.Unix(0, got.Start).In(w.Zone).Date(); first == day {
				t.Fatalf("%v: %v begins inside of day %d", w, got, day)
			}
		}
	})
}

func TestCalendarValidate(t *testing.T) {
	f := func(w windows.Calendar, valid bool) {
		t.Helper()
		if err := w.Validate(); (err == nil) != valid {
			t.Errorf("%v: got %v, want valid %v", w, err, valid)
		}
	}
	f(windows.Calendar{Unit: windows.Day, Zone: time.UTC}, true)
	f(windows.Calendar{Unit: windows.Day}, false)
	f(windows.Calendar{Zone: time.UTC}, false)
	for _, u := range []windows.Unit{windows.Day, windows.Week, windows.Month} {
		if got, err := windows.ParseUnit(u.String()); got != u || err != nil {
			t.Errorf("%s: got %s, %v", u, got, err)
		}
	}
	if _, err := windows.ParseUnit("year"); err == nil {
		t.Error("year: got no error")
	}
}

func BenchmarkCalendarAssign(b *testing.B) {
	w := windows.Calendar{Unit: windows.Day, Zone: zone(b, "Europe/Paris")}
	at := int64(1_795_000_000_000_000_000)
	b.ReportAllocs()
	for b.Loop() {
		at += w.Assign(at).Start & 1
	}
}

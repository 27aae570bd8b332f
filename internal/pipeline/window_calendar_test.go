package pipeline_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/pipeline/windowed"
)

// Days and months of zones are what a plain loop finds that asks for each event's date there: where midnight is left
// out, or comes twice, where clocks move by half an hour, and where a day never was. So are weeks, from Monday.
func TestCalendarOverClockChanges(t *testing.T) {
	const every = 30 * time.Minute // all these clocks change at whole half hours, and by them
	f := func(zone, from string, days int) {
		t.Helper()
		location, err := time.LoadLocation(zone)
		if err != nil {
			t.Fatal(err)
		}
		begin, err := time.ParseInLocation(time.DateOnly, from, time.UTC)
		if err != nil {
			t.Fatal(err)
		}
		for unit, name := range map[string]func(time.Time) string{
			"day":   func(at time.Time) string { return at.Format(time.DateOnly) },
			"month": func(at time.Time) string { return at.Format("2006-01") },
			"week":  func(at time.Time) string { year, week := at.ISOWeek(); return fmt.Sprint(year, " ", week) },
		} {
			type sum struct{ start, end, count int64 }
			want, order, at := map[string]*sum{}, []string{}, begin
			task := windowedTask(windowedConfig(windowed.Window{Calendar: &windowed.Calendar{Unit: unit, Zone: zone}}))
			got := map[string]sum{}
			collect := func() {
				for _, b := range drain(task, at).Windows.Blocks {
					for i := range b.Start {
						got[name(time.Unix(b.Start[i], 0).In(location))] = sum{b.Start[i], b.End[i], int64(b.Count[i])}
					}
				}
				task.Committed(false)
			}
			for end := begin.AddDate(0, 0, days); at.Before(end); at = at.Add(every) {
				step(task, at, record("acme", event(at, "m", "")))
				of := name(at.In(location))
				if want[of] == nil {
					want[of], order = &sum{start: at.Unix()}, append(order, of)
				}
				want[of].count++
				want[of].end = at.Add(every).Unix()
				if at.Sub(begin)%(2*time.Hour) == 0 {
					collect()
				}
			}
			collect()
			closed := order[1 : len(order)-1] // the first began before, the last is open
			if unit == "day" && len(closed) < 4 {
				t.Fatalf("%s: got %d days: the test proves nothing", zone, len(closed))
			}
			for _, of := range closed {
				if got[of] != *want[of] {
					t.Errorf("%s, %s %s: got %+v, want %+v", zone, unit, of, got[of], *want[of])
				}
			}
		}
	}
	f("America/Sao_Paulo", "2018-02-14", 70) // 24:00 becomes 23:00
	f("America/Sao_Paulo", "2018-10-30", 70) // 00:00 becomes 01:00
	f("Australia/Lord_Howe", "2018-03-29", 40)
	f("Australia/Lord_Howe", "2018-10-04", 40)
	f("Pacific/Apia", "2011-12-27", 40) // there was no 30 December
	f("Europe/Paris", "2026-03-26", 40)
	f("Europe/Paris", "2026-10-22", 40)
	f("America/Havana", "2026-03-05", 40)
	f("America/Havana", "2026-10-29", 40) // 01:00 becomes 00:00
}

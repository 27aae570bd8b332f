package windows_test

import (
	"fmt"
	"time"

	"github.com/vigie-io/vigie/pkg/windows"
)

func at(clock string) int64 {
	t, err := time.Parse(time.RFC3339, "2026-11-25T"+clock+"Z")
	if err != nil {
		panic(err)
	}
	return t.UnixNano()
}

func clock(w windows.Window) string {
	return time.Unix(0, w.Start).UTC().Format("15:04:05") + " to " + time.Unix(0, w.End).UTC().Format("15:04:05")
}

func ExampleTumbling() {
	fmt.Println(clock(windows.Tumbling{Size: time.Minute}.Assign(at("10:00:42"))))
	// Output: 10:00:00 to 10:01:00
}

func ExampleHopping() {
	w := windows.Hopping{Size: 5 * time.Minute, Hop: 2 * time.Minute}
	slice := w.Slice(at("10:03:10"))
	fmt.Println("accumulated in", clock(slice))
	for at, last := w.Span(slice); at.Start <= last.Start; at = w.Next(at) {
		fmt.Println("part of", clock(at))
	}
	// Output:
	// accumulated in 10:03:00 to 10:04:00
	// part of 10:00:00 to 10:05:00
	// part of 10:02:00 to 10:07:00
}

func ExampleCalendar() {
	paris, err := time.LoadLocation("Europe/Paris")
	if err != nil {
		panic(err)
	}
	w := windows.Calendar{Unit: windows.Day, Zone: paris}
	day := w.Assign(time.Date(2026, 10, 25, 12, 0, 0, 0, paris).UnixNano()) // clocks go back
	fmt.Println(time.Duration(day.End - day.Start))
	// Output: 25h0m0s
}

// total is what the windows of the example hold.
type total struct{ count, cents int64 }

func ExampleStore() {
	store := windows.NewStore(windows.Tumbling{Size: time.Minute},
		windows.StoreConfig{AllowedLateness: time.Hour, Late: windows.Recompute, MaxSlices: 1000, MaxBytes: 1 << 20},
		windows.Accumulator[total]{
			Merge: func(into, from *total) { into.count, into.cents = into.count+from.count, into.cents+from.cents },
			Bytes: func(*total) int { return 16 },
		})
	pay := func(clock string, cents int64) {
		verdict := store.Add("acme", "shop=1", at(clock), func(t *total) { t.count, t.cents = t.count+1, t.cents+cents })
		fmt.Println(clock, verdict)
	}
	show := func(e *windows.Emission[total]) { fmt.Println(clock(e.Window), "version", e.Version, *e.Value) }

	pay("10:00:10", 500)
	pay("10:01:01", 100)
	pay("10:00:50", 250) // out of order, and in time
	store.Advance("acme", at("10:01:00"), show)
	pay("10:00:59", 50)
	store.Advance("acme", at("10:02:00"), show)
	// Output:
	// 10:00:10 on_time
	// 10:01:01 on_time
	// 10:00:50 on_time
	// 10:00:00 to 10:01:00 version 1 {2 750}
	// 10:00:59 late
	// 10:00:00 to 10:01:00 version 2 {3 800}
	// 10:01:00 to 10:02:00 version 1 {1 100}
}

func ExampleSessions() {
	sessions := windows.NewSessions(
		windows.SessionConfig{Gap: 30 * time.Minute,
			StoreConfig: windows.StoreConfig{Late: windows.Recompute, AllowedLateness: time.Hour,
				MaxSlices: 1000, MaxBytes: 1 << 20}},
		windows.Accumulator[total]{
			Merge: func(into, from *total) { into.count += from.count },
			Bytes: func(*total) int { return 16 },
		})
	for _, clock := range []string{"09:00:00", "09:20:00", "11:00:00"} {
		sessions.Add("acme", "user=7", at(clock), func(t *total) { t.count++ })
	}
	sessions.Advance("acme", at("12:00:00"), func(e *windows.Emission[total]) {
		fmt.Println(clock(e.Window), "events", e.Value.count)
	})
	// Output:
	// 09:00:00 to 09:50:00 events 2
	// 11:00:00 to 11:30:00 events 1
}

package windows_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/vigie-io/vigie/pkg/windows"
)

func TestShape(t *testing.T) {
	paris, err := time.LoadLocation("Europe/Paris")
	if err != nil {
		t.Fatal(err)
	}
	f := func(s windows.Shape, text string, longest time.Duration) {
		t.Helper()
		if got := s.String(); got != text {
			t.Errorf("got %q, want %q", got, text)
		}
		back, err := windows.ParseShape(text)
		if err != nil || back.String() != text || fmt.Sprint(back) != fmt.Sprint(s) {
			t.Errorf("%q read back: got %v, %v", text, back, err)
		}
		if got := s.Longest(); got != longest {
			t.Errorf("longest of %q: got %s, want %s", text, got, longest)
		}
	}
	f(windows.Shape{Aligned: windows.Tumbling{Size: time.Hour}}, "tumbling 1h", time.Hour)
	f(windows.Shape{Aligned: windows.Tumbling{Size: 90 * time.Second, Offset: time.Minute}}, "tumbling 1m30s offset 1m", 90*time.Second)
	f(windows.Shape{Aligned: windows.Hopping{Size: 10 * time.Minute, Hop: 10 * time.Second}}, "hopping 10m every 10s", 10*time.Minute)
	f(windows.Shape{Aligned: windows.Hopping{Size: 30 * time.Hour, Hop: time.Hour, Offset: time.Second}}, "hopping 30h every 1h offset 1s", 30*time.Hour)
	f(windows.Shape{Aligned: windows.Calendar{Unit: windows.Month, Zone: paris}}, "calendar month Europe/Paris", 32*24*time.Hour)
	f(windows.Shape{Aligned: windows.Calendar{Unit: windows.Day, Zone: time.UTC}}, "calendar day UTC", 48*time.Hour)
	f(windows.Shape{Gap: 30 * time.Minute}, "session 30m", 0)

	for _, bad := range []string{
		"", "tumbling", "tumbling x", "tumbling 0s", "tumbling 1h offset", "tumbling 1h offset 1h",
		"tumbling 1h every 1m", "tumbling 1h 1h",
		"hopping 1h", "hopping 1m every 1h", "hopping 1h every", "calendar day", "calendar day Mars/Base", "calendar year UTC",
		"session", "session -1s", "session 1m 2m", "global 1h",
	} {
		if s, err := windows.ParseShape(bad); err == nil {
			t.Errorf("%q: got %v, want an error", bad, s)
		}
	}
}

// A reader of a result learns from its shape when the next one is due.
func ExampleShape() {
	s, err := windows.ParseShape("calendar month UTC")
	if err != nil {
		panic(err)
	}
	january := windows.Window{
		Start: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano(),
		End:   time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC).UnixNano(),
	}
	next, _ := s.Next(january)
	fmt.Println(time.Unix(0, next.End).UTC().Format(time.DateOnly))
	// Output: 2026-03-01
}

func FuzzParseShape(f *testing.F) {
	for _, text := range []string{"tumbling 1h offset 1m", "hopping 5m every 1m", "calendar week Asia/Tokyo", "session 30m"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := windows.ParseShape(text)
		if err != nil {
			return
		}
		if back, err := windows.ParseShape(s.String()); err != nil || back.String() != s.String() {
			t.Errorf("%q: got %q, which reads as %v, %v", text, s, back, err)
		}
	})
}

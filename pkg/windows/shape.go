package windows

import (
	"fmt"
	"strings"
	"time"
)

// Shape is what windows look like, in a form that is stored beside their contents and read back: "tumbling 1h",
// "hopping 5m every 1m", "calendar month Europe/Paris", "session 30m"; the first two may end in "offset 10m". A reader
// of results tells from it when the next one is due.
type Shape struct {
	Aligned Aligned       // nil for sessions
	Gap     time.Duration // of sessions
}

// String is the text that ParseShape reads. It is empty for an Aligned of another package, and for none.
func (s Shape) String() string {
	switch w := s.Aligned.(type) {
	case Tumbling:
		return "tumbling " + short(w.Size) + offset(w.Offset)
	case Hopping:
		return "hopping " + short(w.Size) + " every " + short(w.Hop) + offset(w.Offset)
	case Calendar:
		return "calendar " + w.Unit.String() + " " + w.Zone.String()
	}
	if s.Gap > 0 {
		return "session " + short(s.Gap)
	}
	return ""
}

// ParseShape reads what String writes. Zones are looked up in the IANA database of the system or the program.
func ParseShape(text string) (Shape, error) {
	var (
		s   Shape
		err error
	)
	words := strings.Fields(text)
	if len(words) < 2 {
		return Shape{}, fmt.Errorf("shape of windows %q: want a kind and its sizes, such as \"tumbling 1h\"", text)
	}
	switch kind, sizes := words[0], words[1:]; kind {
	case "tumbling":
		w := Tumbling{}
		if err = read(sizes, &w.Size, "offset", &w.Offset); err == nil {
			err = w.Validate()
		}
		s.Aligned = w
	case "hopping":
		w := Hopping{}
		if err = read(sizes, &w.Size, "every", &w.Hop, "offset", &w.Offset); err == nil {
			err = w.Validate()
		}
		s.Aligned = w
	case "session":
		if err = read(sizes, &s.Gap); err == nil {
			err = SessionConfig{Gap: s.Gap, StoreConfig: StoreConfig{Late: Divert, MaxSlices: 1, MaxBytes: 1}}.Validate()
		}
	case "calendar":
		w := Calendar{}
		if len(sizes) != 2 {
			err = fmt.Errorf("got %d words after calendar, want a unit and a zone", len(sizes))
			break
		}
		if w.Unit, err = ParseUnit(sizes[0]); err == nil {
			w.Zone, err = time.LoadLocation(sizes[1])
		}
		s.Aligned = w
	default:
		err = fmt.Errorf("kind %q: want tumbling, hopping, calendar or session", kind)
	}
	if err != nil {
		return Shape{}, fmt.Errorf("shape of windows %q: %w", text, err)
	}
	return s, nil
}

// Next is the window that is due after w; false for sessions, of which there may be none.
func (s Shape) Next(w Window) (Window, bool) {
	if s.Aligned == nil {
		return Window{}, false
	}
	return s.Aligned.Next(w), true
}

// Longest is the size of the longest window there can be; 0 for sessions, which have no bound.
func (s Shape) Longest() time.Duration {
	const day = 24 * time.Hour
	switch w := s.Aligned.(type) {
	case Tumbling:
		return w.Size
	case Hopping:
		return w.Size
	case Calendar:
		// Changes of clocks, and of a zone's offset by up to a day.
		return map[Unit]time.Duration{Day: 2 * day, Week: 8 * day, Month: 32 * day}[w.Unit]
	}
	return 0
}

// short is a duration without zeros at its end: "1h", not "1h0m0s".
func short(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

func offset(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return " offset " + short(d)
}

// read takes a duration, and then pairs of a word and a duration, of which a last one may be missing.
func read(words []string, size *time.Duration, pairs ...any) (err error) {
	if *size, err = time.ParseDuration(words[0]); err != nil {
		return err
	}
	words = words[1:]
	for i := 0; i < len(pairs) && len(words) > 0; i += 2 {
		if len(words) < 2 || words[0] != pairs[i] {
			return fmt.Errorf("got %q, want %q and a duration", strings.Join(words, " "), pairs[i])
		}
		if *pairs[i+1].(*time.Duration), err = time.ParseDuration(words[1]); err != nil {
			return err
		}
		words = words[2:]
	}
	if len(words) > 0 {
		return fmt.Errorf("got %q behind the sizes", strings.Join(words, " "))
	}
	return nil
}

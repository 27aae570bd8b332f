package kafka

import (
	"testing"

	"github.com/vigie-io/vigie/internal/coarse"
)

func TestPositionBytes(t *testing.T) {
	at := coarse.Position{Topic: "--__AQIDBAUGBwgJCgsMDQ", Next: 12345678901}
	const want = "1 --__AQIDBAUGBwgJCgsMDQ 12345678901"
	if got := string(appendPosition(nil, &at)); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, err := parsePosition([]byte(want)); err != nil || got != at {
		t.Errorf("got %+v, %v, want %+v", got, err, at)
	}
	for _, bad := range []string{"", "1", "1 id", "2 id 5", "1 id -5", "1 id 5 6", "1 id 5x", "1 id 9223372036854775808"} {
		if got, err := parsePosition([]byte(bad)); err == nil {
			t.Errorf("%q: got %+v, want an error", bad, got)
		}
	}
}

// FuzzPosition reads whatever there is: an error, or a position that is written and read as the same.
func FuzzPosition(f *testing.F) {
	for _, seed := range []string{"", "1 id 5", "1  0", "1 id -5", "2 id 5", "1 id 9223372036854775807", "1 id +5", "1 a b c"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		at, err := parsePosition(value)
		if err != nil {
			return
		}
		if again, err := parsePosition(appendPosition(nil, &at)); err != nil || again != at || at.Next < 0 {
			t.Errorf("%q: got %+v, then %+v, %v", value, at, again, err)
		}
	})
}

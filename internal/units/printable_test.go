package units

import (
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestPrintable(t *testing.T) {
	f := func(text string, most int, want string) {
		t.Helper()
		if got := Printable(text, most); got != want {
			t.Errorf("%q at %d: got %q, want %q", text, most, got, want)
		}
	}
	f("rate(a[5m])", 100, "rate(a[5m])")
	f("häuser", 2, "h") // not half of a character
	f("häuser", 3, "hä")
	f("a\xffb", 10, "a\uFFFDb")
	f("curl -H vgk_ABCdef012_-9 x", 100, "curl -H vgk_… x")
	f("vgk_ABCDEFGH", 8, "vgk_…") // a part of a key is none either
	f("vgk_", 8, "vgk_")
	rapid.Check(t, func(t *rapid.T) {
		text, most := rapid.String().Draw(t, "text"), rapid.IntRange(0, 40).Draw(t, "most")
		got := Printable(text, most)
		if !utf8.ValidString(got) || !strings.Contains(text, "vgk_") && (len(got) > most || !strings.HasPrefix(text, got) || len(got) < min(most, len(text))-3) {
			t.Fatalf("%q at %d: got %q", text, most, got)
		}
	})
}

package units

import (
	"fmt"
	"testing"
)

func TestBytes(t *testing.T) {
	f := func(text string, want Bytes, canonical string) {
		t.Helper()
		var got Bytes
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want || got.String() != canonical {
			t.Fatalf("%q: got %d (%s, %v), want %d (%s)", text, got, got, err, want, canonical)
		}
	}
	f("64MiB", 64<<20, "64MiB")
	f("1500", 1500, "1500B")
	f("2 GB", 2e9, "1953125KiB")
	f("0", 0, "0B")

	for _, bad := range []string{"", "x", "-1", "1.5MiB", "9223372036854775807KiB", "MiB"} {
		var b Bytes
		if err := b.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q: got %d, want an error", bad, b)
		}
	}
}

func TestSecretNeverPrints(t *testing.T) {
	s := Secret("hunter2")
	text, _ := s.MarshalText()
	for _, got := range []string{fmt.Sprint(s), fmt.Sprintf("%v %+v %#v %s %q", s, s, s, s, s), fmt.Sprintf("%v", struct{ P Secret }{s}), string(text)} {
		if containsSecret(got) {
			t.Errorf("got %q, want it masked", got)
		}
	}
	if s.Reveal() != "hunter2" {
		t.Errorf("Reveal: got %q", s.Reveal())
	}
}

func containsSecret(s string) bool {
	for i := 0; i+7 <= len(s); i++ {
		if s[i:i+7] == "hunter2" {
			return true
		}
	}
	return false
}

// Package units holds the value types of configuration: byte sizes and secrets. It reads no files.
package units

import (
	"fmt"
	"strconv"
	"strings"
)

// Bytes is a size in bytes; its text form takes B, KiB, MiB, GiB (1024) and KB, MB, GB (1000): "64MiB".
type Bytes int64

var sizes = []struct {
	suffix string
	factor int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1},
}

// UnmarshalText reads "64MiB" or a plain number of bytes.
func (b *Bytes) UnmarshalText(text []byte) error {
	s, factor := strings.TrimSpace(string(text)), int64(1)
	for _, size := range sizes {
		if number, ok := strings.CutSuffix(s, size.suffix); ok {
			s, factor = strings.TrimSpace(number), size.factor
			break
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > (1<<63-1)/factor {
		return fmt.Errorf("size %q: want a whole number with B, KiB, MiB, GiB, TiB, KB, MB, GB or TB", text)
	}
	*b = Bytes(n * factor)
	return nil
}

// String is the shortest exact form.
func (b Bytes) String() string {
	for i := 3; i >= 0; i-- {
		if size := sizes[i]; b != 0 && int64(b)%size.factor == 0 {
			return strconv.FormatInt(int64(b)/size.factor, 10) + size.suffix
		}
	}
	return strconv.FormatInt(int64(b), 10) + "B"
}

// MarshalText is String.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// Secret is a string that never prints: every formatting and marshalling gives "***" (or "" when empty).
type Secret string

// String masks the secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "***"
}

// GoString masks the secret.
func (s Secret) GoString() string { return s.String() }

// MarshalText masks the secret.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText takes the text as it is.
func (s *Secret) UnmarshalText(text []byte) error {
	*s = Secret(text)
	return nil
}

// Reveal returns the secret itself, for the one place that needs it.
func (s Secret) Reveal() string { return string(s) }

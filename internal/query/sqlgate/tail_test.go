package sqlgate

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// However an answer is cut into writes, what is not an error passes as it is, and an error at its end is scrubbed.
func TestTailOfAnyCuts(t *testing.T) {
	const tag = "abcdefghijklmnop"
	begin := "__exception__\r\n" + tag + "\r\n"
	scrub := func(s string) string { return strings.ReplaceAll(s, "/secret", "…") }
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOf(rapid.SampledFrom([]string{"row\n", "_", "__exception__\r\n", begin[:20], "__exception__\r\nabc\r\n", "/secret", "\r\n"})).Draw(t, "rows")
		rows := strings.Join(parts, "")
		body, want := rows, rows
		if rapid.Bool().Draw(t, "breaks") {
			text := rapid.SampledFrom([]string{"Code: 1. DB::Exception: at /secret/x.\n", "two\nlines /secret\n"}).Draw(t, "text")
			body += begin + text + fmt.Sprintf("%d %s\r\n__exception__\r\n", len(text), tag)
			clean := scrub(text)
			want += begin + clean + fmt.Sprintf("%d %s\r\n__exception__\r\n", len(clean), tag)
		}
		var out bytes.Buffer
		tail := newTail(&out, tag, scrub)
		for rest := []byte(body); len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "cut")
			if written, err := tail.Write(rest[:n]); err != nil || written != n {
				t.Fatalf("got %d, %v", written, err)
			}
			rest = rest[n:]
		}
		if err := tail.finish(); err != nil || out.String() != want {
			t.Fatalf("got %q, %v, want %q", out.String(), err, want)
		}
	})
}

package units

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// apiKey is an API key that got into a text by mistake, as it does by a shell's quoting or a client that sends its
// headers along.
var apiKey = regexp.MustCompile(`vgk_[0-9A-Za-z_-]+`)

// Printable is text as it may be kept and shown: without API keys and what is no UTF-8, cut at most bytes. A key that
// the cut goes through is left out as well.
func Printable(text string, most int) string {
	if len(text) > most {
		at := most
		for at > 0 && at > most-utf8.UTFMax && !utf8.RuneStart(text[at]) {
			at-- // not half of a character
		}
		text = text[:at]
	}
	return apiKey.ReplaceAllString(strings.ToValidUTF8(text, "\uFFFD"), "vgk_…")
}

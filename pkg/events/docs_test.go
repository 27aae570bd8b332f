package events_test

import (
	"bytes"
	"encoding/hex"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/vigie-io/vigie/pkg/events"
)

var (
	block = regexp.MustCompile("(?s)```json (metrics|spans|logs)\n(.*?)```")
	piped = regexp.MustCompile(`acme\|(\{.*\})'`)
)

var byteRow = regexp.MustCompile(`(?m)^[0-9a-f]{4}  ((?:[0-9a-f]{2} )+)`)

// pageBytes holds the table of bytes against the metric of protobuf.golden.
func pageBytes(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile("../../docs/format/event.md")
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	for _, row := range byteRow.FindAllStringSubmatch(string(text), -1) {
		table.WriteString(row[1])
	}
	raw, err := hex.DecodeString(strings.ReplaceAll(table.String(), " ", ""))
	if want := goldenMetric(); err != nil || !bytes.Equal(raw, want) {
		t.Errorf("docs/format/event.md shows the bytes %x (%v), want %x", raw, err, want)
	}
}

// The examples of the documents decode as they stand, and the page names every reason.
func TestDocuments(t *testing.T) {
	examples := 0
	pageBytes(t)
	for _, page := range []string{"../../docs/format/event.md", "../../docs/producing-events.md"} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		found := block.FindAllStringSubmatch(string(text), -1)
		for _, m := range piped.FindAllStringSubmatch(string(text), -1) {
			found = append(found, []string{m[0], "metrics", m[1]})
		}
		for _, m := range found {
			b := decode(events.Source{Signal: events.Signal(m[1]), Key: []byte("acme"), Value: []byte(m[2]), Timestamp: now})
			if len(b.Rejects) > 0 || accepted(b) == 0 {
				t.Errorf("%s: %s: got %d events and rejects %+v, want it accepted", page, m[2], accepted(b), b.Rejects)
			}
			examples++
		}
	}
	if examples < 5 {
		t.Errorf("got %d examples in the documents, want 5 or more", examples)
	}
	text, err := os.ReadFile("../../docs/format/event.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, reason := range events.Reasons() {
		if !strings.Contains(string(text), "`"+string(reason)+"`") {
			t.Errorf("reason %s: got no mention in docs/format/event.md, want one", reason)
		}
	}
	for attribute, label := range events.DefaultResourceLabels() {
		if !strings.Contains(string(text), "`"+attribute+"`") {
			t.Errorf("resource attribute %s (label %s): got no mention in docs/format/event.md, want one", attribute, label)
		}
	}
}

package cli

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/kafka"
)

func TestParseDLQ(t *testing.T) {
	f := func(line string, at []kafka.Position, dryRun bool, rest ...string) {
		t.Helper()
		got, others, err := parseDLQ(strings.Fields(line), time.Now())
		if err != nil {
			t.Errorf("%s: %v", line, err)
		}
		if !slices.Equal(got.at, at) || got.dryRun != dryRun || !slices.Equal(others, rest) {
			t.Errorf("%s: got positions %v, dry run %v, rest %q; want %v, %v, %q", line, got.at, got.dryRun, others, at, dryRun, rest)
		}
	}
	one := []kafka.Position{{Partition: 0, Offset: 12}}
	f("0/12", one, false)
	f("0/12 -dry-run", one, true)
	// A switch takes nothing: what stands behind it is a position.
	f("-dry-run 0/12", one, true)
	f("-dry-run=true 0/12 3/4", []kafka.Position{{Partition: 0, Offset: 12}, {Partition: 3, Offset: 4}}, true)
	f("-check-config 0/12", one, false, "-check-config")
	f("-all -tenant acme", nil, false)
	// The value of a flag is not one, whoever's flag it is.
	f("-config x.yaml 0/12 -limit 3", one, false, "-config", "x.yaml")
	f("-kafka.group=g 0/12", one, false, "-kafka.group=g")
	if _, _, err := parseDLQ([]string{"-dry-run", "twelve"}, time.Now()); err == nil {
		t.Error("got no error for a position that is none")
	}
}

package ingest

import (
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/vigie-io/vigie/internal/tenants"
)

// announceEvery is how often help and unit of a metric travel with one of its samples: often enough that the
// series table learns them, seldom enough that they cost nothing.
const announceEvery = 10 * time.Minute

// metadata remembers help and unit of metrics. Remote write 1.0 sends them apart from samples, 2.0 with each.
//
// It does not remember types: with 1.0 they reach only the one ingest process that got the message, so a kind
// taken from them would differ from process to process and split series. Safe for concurrent use.
type metadata struct {
	limit   int
	mu      sync.Mutex
	entries map[metadataKey]*metadataEntry
}

type metadataKey struct {
	tenant tenants.ID
	name   string
}

type metadataEntry struct {
	help, unit string
	announced  time.Time
}

// learn stores what a message of remote write 1.0 says of a metric family.
func (m *metadata) learn(tenant tenants.ID, w writeMetadata, limits *tenants.Limits) {
	help, unit := usable(w.help, w.unit, limits)
	if w.family == "" || len(w.family) > int(limits.MaxLabelName) || help == "" && unit == "" {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	entry := m.entries[metadataKey{tenant, w.family}]
	if entry == nil {
		entry = m.add(metadataKey{tenant, strings.Clone(w.family)})
	}
	if entry.help != help || entry.unit != unit {
		*entry = metadataEntry{help: strings.Clone(help), unit: strings.Clone(unit)}
	}
}

// announce returns the help and unit to send with a sample of name now; mostly none. help and unit are what
// the series itself came with, "" when nothing.
func (m *metadata) announce(tenant tenants.ID, name, help, unit string, now time.Time, limits *tenants.Limits) (string, string) {
	help, unit = usable(help, unit, limits)
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.entries) == 0 && help == "" && unit == "" {
		return "", ""
	}
	own := m.entries[metadataKey{tenant, name}]
	if own != nil && now.Sub(own.announced) < announceEvery {
		return "", ""
	}
	if help == "" && unit == "" {
		source := own
		if source == nil || source.help == "" && source.unit == "" {
			source = m.entries[metadataKey{tenant, family(name)}]
		}
		if source == nil {
			return "", ""
		}
		help, unit = source.help, source.unit
	}
	if own == nil {
		own = m.add(metadataKey{tenant, strings.Clone(name)})
	}
	own.announced = now
	return help, unit
}

func (m *metadata) add(key metadataKey) *metadataEntry {
	if len(m.entries) >= m.limit {
		clear(m.entries)
	}
	entry := new(metadataEntry)
	m.entries[key] = entry
	return entry
}

// usable leaves out what a stream worker would refuse: a text about a metric is no reason to lose its samples.
func usable(help, unit string, limits *tenants.Limits) (string, string) {
	if len(help) > int(limits.MaxLabelValue) || !utf8.ValidString(help) {
		help = ""
	}
	if len(unit) > int(limits.MaxLabelName) || !utf8.ValidString(unit) {
		unit = ""
	}
	return help, unit
}

var partSuffixes = []string{"_bucket", "_count", "_sum", "_total", "_created"}

// family is the name of the family that a series of this name would be part of.
func family(name string) string {
	for _, suffix := range partSuffixes {
		if base, ok := strings.CutSuffix(name, suffix); ok {
			return base
		}
	}
	return name
}

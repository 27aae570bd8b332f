package pipeline

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"

	"github.com/vigie-io/vigie/internal/units"
	"github.com/vigie-io/vigie/pkg/events"
)

// LetterRow says which record of a tenant became a dead letter, and why: for the tenant, who cannot read the topic. A
// letter is in exactly one row, of the epoch that wrote it. Letters of records that name no tenant are in none.
type LetterRow struct {
	Tenant    string
	Signal    events.Signal
	Reason    events.Reason // that of the first refused event
	Topic     string        // of the source
	Partition int32
	Offset    int64  // of the record; noOffset in a row that adds letters up
	Time      int64  // Unix milliseconds of processing time; of a row that adds letters up the start of the minute
	Letters   uint64 // 1, or how many the row adds up
	Events    uint64 // refused in them
	Bytes     uint64 // of the records' values
	Detail    string // as the letter has it, without API keys; of the first letter, in a row that adds up
	Excerpt   string // of the first refused event, without API keys; "" of protobuf
}

// noOffset is the offset of a row that adds letters up. Such rows of one minute are one row in storage.
const noOffset = -1

const (
	letterMinute = 60_000 // in which letters are bounded, milliseconds of processing time
	lettersShown = 10     // with rows of their own, a tenant and reason
	lettersInAll = 1000   // likewise, all tenants of a partition together
	// letterKeys bounds tenants and reasons: who writes to Kafka makes up as many tenants as he likes, and none of them
	// reads.
	letterKeys = 1000
)

// foreignPayload stands in place of details that may be of another tenant's event.
const foreignPayload = "left out: the payload may name another tenant than the record's header or key"

// letterRows gathers the rows of an epoch, and remembers how many rows of their own letters had in the minute. What an
// aborted epoch had counts, too: its letters come again and may then be added up.
type letterRows struct {
	rows   []LetterRow
	sums   map[TenantReason]int // index in rows
	minute int64
	shown  map[TenantReason]int
	all    int
}

// addLetter appends a row for the record at hand, of which the settled t.refused were refused, or adds it to one.
func (t *Task) addLetter(r *Record, h *sourceHeaders, tenant string) {
	if tenant == "" {
		return
	}
	l, key := &t.letterRows, TenantReason{tenant, t.refused[0].reason}
	if minute := t.now / letterMinute; l.shown == nil || minute != l.minute {
		l.minute, l.shown, l.all = minute, make(map[TenantReason]int), 0
		clear(l.sums)
	}
	if _, known := l.shown[key]; !known {
		if len(l.shown) == letterKeys {
			return
		}
		l.shown[key] = 0
	}
	at, summed := l.sums[key]
	switch {
	case l.shown[key] < lettersShown && l.all < lettersInAll:
		l.shown[key]++
		l.all++
		l.rows = append(l.rows, t.letterRow(r, h, key, t.now, r.Offset))
	case summed:
		row := &l.rows[at]
		row.Letters++
		row.Events += uint64(len(t.refused))
		row.Bytes += uint64(len(r.Value))
	default:
		if l.sums == nil {
			l.sums = make(map[TenantReason]int)
		}
		l.sums[key] = len(l.rows)
		l.rows = append(l.rows, t.letterRow(r, h, key, l.minute*letterMinute, noOffset))
	}
}

func (t *Task) letterRow(r *Record, h *sourceHeaders, key TenantReason, time, offset int64) LetterRow {
	row := LetterRow{
		Tenant: key.Tenant, Signal: t.cfg.Signal, Reason: key.Reason, Topic: t.cfg.Partition.Topic,
		Partition: t.cfg.Partition.Partition,
		Offset:    offset, Time: time, Letters: 1, Events: uint64(len(t.refused)),
		Bytes: uint64(len(r.Value)), Detail: foreignPayload,
	}
	text := events.IsJSON(h.contentType, r.Value)
	foreign := func(f refusal) bool { return f.reason == events.ReasonTenantMismatch }
	if slices.ContainsFunc(t.refused, foreign) || text && mayNameAnother(r.Value, key.Tenant) {
		return row
	}
	row.Detail = units.Printable(string(appendDetails(nil, t.refused)), maxDetailBytes)
	if text && offset != noOffset {
		row.Excerpt = units.Printable(string(eventAt(r.Value, t.refused[0].index)), int(t.cfg.Config.DLQExcerpt))
	}
	return row
}

var (
	// tenantWord ends the name of the field, and of OTLP's attribute; the group is the tenant, if it follows.
	tenantWord = regexp.MustCompile(`tenant"(?:\s*:\s*"([^"]*)"|\s*,\s*"value"\s*:\s*\{\s*"stringValue"\s*:\s*"([^"]*)")?`)
	// escapedTenant is a letter of that name as an escape.
	escapedTenant = regexp.MustCompile(`\\u00(?:6[15eE]|74)`)
)

// mayNameAnother says whether a JSON text names another tenant than that, or might: it may break off before the decoder
// finds out.
func mayNameAnother(text []byte, tenant string) bool {
	for _, m := range tenantWord.FindAllSubmatch(text, -1) {
		if string(m[1])+string(m[2]) != tenant {
			return true
		}
	}
	return escapedTenant.Match(text)
}

// eventAt is the event of that index in a JSON array of events; else, and where the array breaks before it, the value.
func eventAt(value []byte, index int) []byte {
	d := json.NewDecoder(bytes.NewReader(value))
	if opening, err := d.Token(); err != nil || opening != json.Delim('[') {
		return value
	}
	for i := 0; d.More(); i++ {
		var event json.RawMessage
		if d.Decode(&event) != nil {
			break
		}
		if i == index {
			return event
		}
	}
	return value
}

// letterRowBytes is the most that a row takes in a block: a topic has 249 bytes, a tenant fewer.
func letterRowBytes(cfg *Config) int { return 1024 + maxDetailBytes + int(cfg.DLQExcerpt) }

// forget drops the rows of the epoch.
func (l *letterRows) forget() {
	clear(l.rows)
	l.rows = l.rows[:0]
	clear(l.sums)
}

package backfill

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/vigie-io/vigie/pkg/events"
)

// Fields of an event that a column may hold, by signal: t text, n number, m moment, j JSON, l labels.
var columnFields = map[events.Signal]map[string]byte{
	events.Metrics: {
		"tenant": 't', "time": 'm', "start": 'm', "name": 't', "kind": 't', "value": 'n', "labels": 'l', "unit": 't',
		"help": 't', "histogram": 'j',
	},
	events.Spans: {
		"tenant": 't', "time": 'm', "duration": 'n', "service": 't', "name": 't', "kind": 't', "status": 't', "status_code": 'n',
		"route": 't', "peer": 't', "trace_id": 't', "span_id": 't', "parent_id": 't', "attributes": 'l',
	},
	events.Logs: {
		"tenant": 't', "time": 'm', "service": 't', "severity": 't', "body": 't', "trace_id": 't', "span_id": 't',
		"attributes": 'l',
	},
}

// leaf says what to make of a leaf column.
type leaf struct {
	field string // of the event; "" when the column is left alone
	kind  byte   // of columnFields; of labels: k and v a map's keys and values, s a member, j all as JSON
	name  string // of the label that a member is
	unit  int64  // nanoseconds of a timestamp's unit, 0 when it is none
}

func (l *leaf) holdsLabels() bool { return l.field == "labels" || l.field == "attributes" }

// complete refuses columns of which no row could become an event.
func complete(signal events.Signal, leaves []leaf) error {
	needed := map[events.Signal]string{events.Metrics: "name", events.Spans: "duration", events.Logs: "body"}[signal]
	for _, field := range []string{"time", needed} {
		if !slices.ContainsFunc(leaves, func(l leaf) bool { return l.field == field }) {
			return fmt.Errorf("there is no column %s; the columns are named as the fields of an event", field)
		}
	}
	return nil
}

func appendKey(dst []byte, field string) []byte {
	if dst[len(dst)-1] != '{' {
		dst = append(dst, ',')
	}
	return append(append(append(dst, '"'), field...), '"', ':')
}

// appendMember begins a member of an object whose brackets come later. key is a JSON string.
func appendMember(dst, key []byte) []byte {
	if len(dst) > 0 {
		dst = append(dst, ',')
	}
	return append(append(dst, key...), ':')
}

// appendJSON appends text as it is when it is JSON, so that what it holds is a value; else as a text, which is refused.
func appendJSON(dst, text []byte) []byte {
	if json.Valid(text) {
		return append(dst, text...)
	}
	return appendText(dst, text)
}

// appendText appends text as a JSON string.
func appendText(dst, text []byte) []byte {
	for _, c := range text {
		if c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			quoted, _ := json.Marshal(string(text))
			return append(dst, quoted...)
		}
	}
	return append(append(append(dst, '"'), text...), '"')
}

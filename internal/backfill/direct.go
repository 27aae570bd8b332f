package backfill

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
	"unsafe"

	"github.com/parquet-go/parquet-go"

	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

// direct makes metrics of Parquet rows without writing and reading JSON between. It takes only rows of which it is
// plain that the way over JSON gives the same event and no refusal; it leaves all others to that way, so that there is
// one place where rows are judged.
type direct struct {
	leaves []leaf
	tenant string // of every row; "" takes the rows' own
	limits events.Options

	m      events.Metric
	labels []series.Label
	keys   []string
	text   []byte // labels that were numbers
	bytes  int    // of texts
	valid  string // the tenant that was looked at last
}

func newDirect(cfg *Config, leaves []leaf) *direct {
	d := &direct{leaves: leaves, tenant: string(cfg.Tenant), limits: cfg.Decoder}
	of := events.DefaultOptions()
	for _, limit := range []struct{ own, otherwise *int }{
		{&d.limits.MaxRecord, &of.MaxRecord}, {&d.limits.MaxLabels, &of.MaxLabels}, {&d.limits.MaxName, &of.MaxName},
		{&d.limits.MaxValue, &of.MaxValue},
	} {
		if *limit.own <= 0 {
			*limit.own = *limit.otherwise
		}
	}
	return d
}

// metric returns the row as an event that is valid until the next call and as long as the row is, or nil.
func (d *direct) metric(row parquet.Row) *events.Metric {
	d.m, d.labels, d.keys, d.text, d.bytes = events.Metric{}, d.labels[:0], d.keys[:0], d.text[:0], 0
	values, timed, valued := 0, false, false
	for i := range row {
		v := &row[i]
		of := &d.leaves[v.Column()]
		if of.field == "" || v.IsNull() {
			if of.kind == 'v' && v.DefinitionLevel() > 0 {
				values++ // of a key without a value
			}
			continue
		}
		ok := true
		switch of.kind {
		case 'k':
			var key string
			key, ok = d.plain(v)
			d.keys = append(d.keys, key)
		case 'v':
			if values < len(d.keys) {
				ok = d.label(d.keys[values], v)
			}
			values++
		case 's':
			ok = d.label(of.name, v)
		case 'm':
			var ns int64
			ns, ok = moment(v, of.unit)
			if of.field == "time" {
				d.m.Time, timed = ns, true
			} else {
				d.m.Start = ns
			}
		case 'n':
			d.m.Value, ok = float(v)
			valued = true
		case 't':
			ok = d.field(of.field, v)
		default:
			return nil
		}
		if !ok {
			return nil
		}
	}
	if !timed || !valued || !d.complete() {
		return nil
	}
	return &d.m
}

// field sets the field of text.
func (d *direct) field(field string, v *parquet.Value) bool {
	text, ok := d.plain(v)
	if !ok {
		return false
	}
	switch field {
	case "tenant":
		d.m.Tenant = text
	case "name":
		d.m.Name = text
	case "unit":
		d.m.Unit = text
	case "help":
		d.m.Help = text
	case "kind":
		switch text {
		case "observation":
			d.m.Kind = events.Observation
		case "delta":
			d.m.Kind = events.Delta
		case "gauge":
			d.m.Kind = events.Gauge
		case "cumulative":
			d.m.Kind = events.Cumulative
		default:
			return false
		}
	default:
		return false
	}
	return true
}

// label adds a label. Labels are text: numbers become theirs.
func (d *direct) label(name string, v *parquet.Value) bool {
	var value string
	if v.Kind() == parquet.ByteArray {
		var ok bool
		if value, ok = d.plain(v); !ok {
			return false
		}
	} else {
		from := len(d.text)
		d.text = appendNumber(d.text, *v)
		value = view(d.text[from:])
	}
	d.labels = append(d.labels, series.Label{Name: name, Value: value})
	return name != "" && name != "__name__" && len(name) <= d.limits.MaxName && len(value) <= d.limits.MaxValue
}

// complete looks at the event as a whole.
func (d *direct) complete() bool {
	m := &d.m
	if len(d.labels) > d.limits.MaxLabels || m.Name == "" || len(m.Name) > d.limits.MaxName || len(m.Unit) > d.limits.MaxName ||
		len(m.Help) > d.limits.MaxValue {
		return false
	}
	// What the event takes as JSON at most: a byte becomes six, and a label has five more.
	if 1024+6*d.bytes+8*len(d.labels) > d.limits.MaxRecord {
		return false
	}
	return d.ofTenant() && d.sort()
}

func (d *direct) ofTenant() bool {
	switch {
	case d.tenant != "" && (d.m.Tenant == "" || d.m.Tenant == d.tenant):
		d.m.Tenant = d.tenant
		return true
	case d.tenant != "":
		return false
	case d.m.Tenant == d.valid:
		return d.valid != ""
	case tenants.Validate(tenants.ID(d.m.Tenant)) != nil:
		return false
	}
	d.valid = strings.Clone(d.m.Tenant)
	return true
}

// sort orders the labels and drops those without a value.
func (d *direct) sort() bool {
	labels, ascending := d.labels[:0], true
	for _, l := range d.labels {
		if l.Value == "" {
			continue
		}
		if n := len(labels); n > 0 && labels[n-1].Name >= l.Name {
			ascending = false
		}
		labels = append(labels, l)
	}
	if !ascending {
		slices.SortFunc(labels, func(a, b series.Label) int { return cmp.Compare(a.Name, b.Name) })
		for i := range labels[1:] {
			if labels[i].Name == labels[i+1].Name {
				return false
			}
		}
	}
	if len(labels) > 0 {
		d.m.Labels = labels
	}
	return true
}

// plain is a text that JSON carries as it is: UTF-8 without control characters. It is the value's bytes.
func (d *direct) plain(v *parquet.Value) (text string, ok bool) {
	b := v.ByteArray()
	d.bytes += len(b)
	var high byte
	for _, c := range b {
		if c < ' ' {
			return "", false
		}
		high |= c
	}
	return view(b), high < utf8.RuneSelf || utf8.Valid(b)
}

func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// float is a finite number.
func float(v *parquet.Value) (f float64, ok bool) {
	switch v.Kind() {
	case parquet.Double:
		f = v.Double()
	case parquet.Float:
		f = float64(v.Float())
	case parquet.Int64:
		f = float64(v.Int64())
	case parquet.Int32:
		f = float64(v.Int32())
	default:
		return 0, false
	}
	return f, !math.IsNaN(f) && !math.IsInf(f, 0)
}

// moment is a timestamp, or Unix time of which the size tells the unit as in JSON. Times before 1970 and after 2262 are
// left.
func moment(v *parquet.Value, unit int64) (ns int64, ok bool) {
	switch v.Kind() {
	case parquet.Int64:
		ns = v.Int64()
	case parquet.Int32:
		ns = int64(v.Int32())
	default:
		return 0, false
	}
	if unit == 0 {
		switch {
		case ns < 1e11:
			unit = 1e9
		case ns < 1e14:
			unit = 1e6
		case ns < 1e17-8: // which no float64 rounds up to 1e17
			unit = 1e3
		case ns >= 1e17:
			unit = 1
		default:
			return 0, false
		}
	}
	return ns * unit, ns >= 0 && ns <= math.MaxInt64/unit
}

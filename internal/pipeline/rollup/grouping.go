package rollup

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/rules"
	"github.com/vigie-io/vigie/pkg/series"
)

// Reasons for which an event is not in a declared rollup whose condition it meets.
const (
	// ReasonLongLabel: an attribute is too long for a label.
	ReasonLongLabel events.Reason = "long_label"
	// ReasonNoSession: the event lacks a field that says whose session it is of.
	ReasonNoSession events.Reason = "no_session"
)

// Grouping is one metric of a rollup. Labels and Fields run beside each other, in the order of label names.
type Grouping struct {
	Metric         string
	Labels, Fields []string
	required       []bool // fields without which an event is left out; nil: none
}

// labelLetters matches what no label has.
var labelLetters = regexp.MustCompile(`[^a-zA-Z0-9_]`)

// maxDerivedLabel bounds the value of a label that comes from an attribute, which may be longer than a label may be.
const maxDerivedLabel = 4 << 10

func newGrouping(name string, fields []string, also bool) (Grouping, error) {
	g := Grouping{Metric: name}
	type pair struct{ label, field string }
	pairs := make([]pair, 0, len(fields))
	for _, field := range fields {
		label := labelLetters.ReplaceAllString(field, "_")
		if field == "" || label[0] >= '0' && label[0] <= '9' || label == "__name__" {
			return g, fmt.Errorf("by %q: want the name of a field", field)
		}
		if slices.ContainsFunc(pairs, func(p pair) bool { return p.label == label }) {
			return g, fmt.Errorf("by %v: two fields make the label %s", fields, label)
		}
		pairs = append(pairs, pair{label, field})
	}
	if len(pairs) > 64 {
		return g, fmt.Errorf("by: %d fields, want at most 64", len(pairs))
	}
	slices.SortFunc(pairs, func(a, b pair) int { return strings.Compare(a.label, b.label) })
	for _, p := range pairs {
		g.Labels, g.Fields = append(g.Labels, p.label), append(g.Fields, p.field)
	}
	if also {
		g.Metric += ":" + strings.Join(g.Labels, "_")
	}
	return g, nil
}

// require adds fields that an event must have to those of the grouping. The metric keeps its name.
func (g *Grouping) require(by []string) error {
	for _, field := range by {
		if !slices.Contains(g.Fields, field) {
			g.Fields = append(g.Fields, field)
		}
	}
	all, err := newGrouping(g.Metric, g.Fields, false)
	if err != nil {
		return fmt.Errorf("window.session.%w", err)
	}
	*g = all
	for _, field := range g.Fields {
		g.required = append(g.required, slices.Contains(by, field))
	}
	return nil
}

// AppendLabels appends the labels that an event has in the grouping. refused is why the event is left out, if it is.
func (g *Grouping) AppendLabels(dst []series.Label, f rules.Fields) (_ []series.Label, refused events.Reason) {
	for i, field := range g.Fields {
		value := f.Text(field)
		switch {
		case len(value) > maxDerivedLabel:
			return dst, ReasonLongLabel
		case value != "":
			dst = append(dst, series.Label{Name: g.Labels[i], Value: value})
		case g.required != nil && g.required[i]:
			return dst, ReasonNoSession
		}
	}
	return dst, ""
}

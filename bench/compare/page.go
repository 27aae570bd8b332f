package compare

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// The section of a page that Page writes stands between these lines.
const (
	pageBegin = "<!-- written by `make bench-page` from bench/results/summary.json: begin -->\n"
	pageEnd   = "<!-- end -->\n"
)

// peerNames say what a peer is, in the order of the table.
var peerNames = []struct{ peer, text string }{
	{Vigie, "**Vigie**, `stream` with sink, exactly once"},
	{VigieTwo, "the same with two workers"},
	{"null", "franz-go, only reading"},
	{"encoding-json", "franz-go + encoding/json + DDSketch"},
	{"fastjson", "franz-go + fastjson + DDSketch"},
	{"streamaggr", "franz-go + fastjson + VictoriaMetrics streamaggr"},
	{"goka", "goka + encoding/json, by a loop topic, without quantiles"},
	{"clickhouse", "ClickHouse Kafka engine + materialized view, quantilesDD"},
	{"clickhouse-tdigest", "ClickHouse Kafka engine + materialized view, quantilesTDigest"},
	{"kafka-streams", "Kafka Streams, exactly once"},
	{"flink", "Flink, exactly once"},
	{"jet", "Hazelcast Jet, exactly once"},
}

// Page puts the tables of entries into a page between its two marks. machine describes where they were measured.
func Page(page []byte, entries []Entry, machine string) ([]byte, error) {
	before, rest, began := bytes.Cut(page, []byte(pageBegin))
	_, after, ended := bytes.Cut(rest, []byte(pageEnd))
	if !began || !ended {
		return nil, fmt.Errorf("page without the lines %q and %q", pageBegin, pageEnd)
	}
	out := append(bytes.Clone(before), pageBegin...)
	out = fmt.Appendf(out, "Measured on %s.\n", machine)
	out = appendPeers(out, entries)
	out = appendOthers(out, entries)
	out = appendTargets(out, entries)
	return append(append(out, pageEnd...), after...), nil
}

type place struct {
	format string
	series int
}

func appendPeers(out []byte, entries []Entry) []byte {
	var places []place
	for _, e := range entries {
		if at := (place{e.Format, e.Series}); !slices.Contains(places, at) {
			places = append(places, at)
		}
	}
	for _, at := range places {
		rated := func(e Entry) bool { return e.Measure == "rate" && e.Format == at.format && e.Series == at.series }
		if !slices.ContainsFunc(entries, rated) {
			continue
		}
		out = fmt.Appendf(out, "\n**%s, %s series**\n\n", title(at.format), thousands(float64(at.series)))
		out = append(out, "| | events per CPU-second: median (least – most) | Vigie's, as a multiple: least / median / most "+
			"| events a row of results | allocations an event | resident |\n|---|---|---|---|---|---|\n"...)
		for _, p := range peerNames {
			rate := find(entries, "rate", p.peer, at)
			if rate == nil {
				continue
			}
			times, rows, allocs, resident := "", "", "", ""
			if e := find(entries, "per-row", p.peer, at); e != nil {
				rows = fmt.Sprintf("%.3g", e.Median)
			}
			if e := find(entries, "times", p.peer, at); e != nil {
				times = fmt.Sprintf("%.1f / **%.1f** / %.1f", e.Min, e.Median, e.Max)
			}
			if e := find(entries, "allocs", p.peer, at); e != nil {
				allocs = fmt.Sprintf("%.3g", e.Median)
			}
			if e := find(entries, "resident", p.peer, at); e != nil {
				resident = fmt.Sprintf("%.0f MiB", e.Median/(1<<20))
			}
			out = fmt.Appendf(out, "| %s | %s (%s – %s) | %s | %s | %s | %s |\n", p.text,
				thousands(rate.Median), thousands(rate.Min), thousands(rate.Max), times, rows, allocs, resident)
		}
	}
	return out
}

// variants tell runs of Vigie apart that are not as it is shipped.
var variants = map[string]string{VigieTwo: ", two workers", VigieKilled: ", killed"}

// others are the measures of Vigie alone.
var others = []string{
	"fresh-p50", "fresh-p99", "recovery", "two-workers", "growth", "heap", "stored", "per-stored-row", "clickhouse", "merges",
}

func appendOthers(out []byte, entries []Entry) []byte {
	out = append(out, "\n**Vigie by itself**\n\n| | | least | median | most |\n|---|---|---|---|---|\n"...)
	for _, measure := range others {
		for _, e := range entries {
			if e.Measure == measure {
				out = fmt.Appendf(out, "| %s | %s, %s series%s | %s | %s | %s |\n", e.Unit, title(e.Format),
					thousands(float64(e.Series)), variants[e.Peer], figure(e.Min), figure(e.Median), figure(e.Max))
			}
		}
	}
	return out
}

// title makes "JSON, dense" of "json dense", and leaves "protobuf" as it is written.
func title(format string) string {
	name, rest, more := strings.Cut(format, " ")
	if name != "protobuf" {
		name = strings.ToUpper(name)
	}
	if more {
		name += ", " + rest
	}
	return name
}

func find(entries []Entry, measure, peer string, at place) *Entry {
	for i := range entries {
		if e := &entries[i]; e.Measure == measure && e.Peer == peer && e.Format == at.format && e.Series == at.series {
			return e
		}
	}
	return nil
}

func appendTargets(out []byte, entries []Entry) []byte {
	out = append(out, "\n**Targets**\n\n| | floor | stretch | measured, median | |\n|---|---|---|---|---|\n"...)
	for _, e := range entries {
		if e.Floor == 0 {
			continue
		}
		verdict := "missed"
		if reaches(e.Median, e.Floor, e.Better) {
			verdict = "reached"
		}
		if reaches(e.Median, e.Stretch, e.Better) {
			verdict = "stretch reached"
		}
		out = fmt.Appendf(out, "| %s, %s, %s series: %s%s | %s | %s | %s | %s |\n",
			e.Peer, title(e.Format), thousands(float64(e.Series)), e.Unit, fullness(entries, &e),
			figure(e.Floor), figure(e.Stretch), figure(e.Median), verdict)
	}
	return out
}

// fullness says how full rows were, where a target is for 118 events a row.
func fullness(entries []Entry, e *Entry) string {
	if e.Measure != "stored" && e.Measure != "clickhouse" {
		return ""
	}
	var list []string
	for _, rows := range []struct{ measure, text string }{{"per-stored-row", "stored"}, {"per-row", "inserted"}} {
		if found := find(entries, rows.measure, e.Peer, place{e.Format, e.Series}); found != nil {
			list = append(list, fmt.Sprintf("%.0f a row %s", found.Median, rows.text))
		}
	}
	if list == nil {
		return ""
	}
	return ", at " + strings.Join(list, " and ")
}

func reaches(value, target float64, better string) bool {
	if better == "lower" {
		return value <= target
	}
	return value >= target
}

// figure prints a number with three digits or all before the point, or in thousands.
func figure(v float64) string {
	switch {
	case v >= 10_000:
		return thousands(v)
	case v >= 1000:
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

// thousands prints 1234567 as 1,235 k.
func thousands(v float64) string {
	text := fmt.Sprintf("%.0f", v/1000)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text + " k"
}

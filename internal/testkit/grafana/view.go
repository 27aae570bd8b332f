package grafana

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// View is what a dashboard is looked at with. The zero Interval is one second.
type View struct {
	From, To  time.Time
	Interval  time.Duration // $__interval, that is the time range over the panel's width, at least the datasource's own
	variables map[string]string
}

// step is the interval in whole seconds.
func (v View) step() int { return max(1, int(v.Interval.Seconds())) }

// Step is the step of range queries.
func (v View) Step() time.Duration { return time.Duration(v.step()) * time.Second }

// PromQL fills in variables, and the intervals as Grafana's Prometheus datasource does: $__rate_interval is four times
// the scrape interval, or $__interval and one scrape interval if that is more. scrape is the datasource's timeInterval.
func (v View) PromQL(expr string, scrape time.Duration) string {
	rate := max(v.Step()+scrape, 4*scrape)
	return v.variable(strings.NewReplacer(
		"$__rate_interval", seconds(rate), "$__interval", seconds(v.Step()), "$__range", seconds(v.To.Sub(v.From)),
	).Replace(expr))
}

func seconds(d time.Duration) string { return strconv.Itoa(int(d.Seconds())) + "s" }

func (v View) variable(text string) string {
	for name, value := range v.variables {
		text = strings.NewReplacer("${"+name+"}", value, "$"+name, value).Replace(text)
	}
	return text
}

// macro is $__name or $__name(arguments), the arguments without brackets but those of one call inside.
var macro = regexp.MustCompile(`\$__(\w+)(?:\(((?:[^()]|\([^()]*\))*)\))?`)

// SQL fills in variables and macros as Grafana's ClickHouse datasource does (version 4.20).
func (v View) SQL(raw string) (string, error) {
	var failure error
	out := macro.ReplaceAllStringFunc(raw, func(m string) string {
		parts := macro.FindStringSubmatch(m)
		var args []string
		if parts[2] != "" {
			for arg := range strings.SplitSeq(parts[2], ",") {
				args = append(args, strings.TrimSpace(arg))
			}
		}
		text, err := v.expand(parts[1], args)
		if err != nil {
			failure = fmt.Errorf("expand %s: %w", m, err)
		}
		return text
	})
	return v.variable(out), failure
}

func (v View) expand(name string, args []string) (string, error) {
	want := map[string]int{
		"timeFilter": 1, "timeFilter_ms": 1, "dateFilter": 1, "dateTimeFilter": 2, "dt": 2,
		"timeInterval": 1, "timeInterval_ms": 1, "fromTime": 0, "toTime": 0, "fromTime_ms": 0, "toTime_ms": 0, "interval_s": 0,
	}
	if n, known := want[name]; !known || len(args) != n {
		return "", fmt.Errorf("macro with %d arguments is not known", len(args))
	}
	between := func(column string, literal func(time.Time) string) string {
		return fmt.Sprintf("%s >= %s AND %s <= %s", column, literal(v.From), column, literal(v.To))
	}
	switch name {
	case "timeFilter":
		return between(args[0], literal), nil
	case "timeFilter_ms":
		return between(args[0], literalMilli), nil
	case "dateFilter":
		return between(args[0], literalDate), nil
	case "dateTimeFilter", "dt":
		return "(" + between(args[0], literalDate) + ") AND (" + between(args[1], literal) + ")", nil
	case "timeInterval":
		return fmt.Sprintf("toStartOfInterval(toDateTime(%s), INTERVAL %d second)", args[0], v.step()), nil
	case "timeInterval_ms":
		return fmt.Sprintf("toStartOfInterval(toDateTime64(%s, 3), INTERVAL %d millisecond)", args[0], v.step()*1000), nil
	case "fromTime":
		return literal(v.From), nil
	case "toTime":
		return literal(v.To), nil
	case "fromTime_ms":
		return literalMilli(v.From), nil
	case "toTime_ms":
		return literalMilli(v.To), nil
	}
	return strconv.Itoa(v.step()), nil // interval_s
}

func literal(t time.Time) string { return fmt.Sprintf("toDateTime(%d)", t.Unix()) }
func literalMilli(t time.Time) string {
	return fmt.Sprintf("fromUnixTimestamp64Milli(%d)", t.UnixMilli())
}
func literalDate(t time.Time) string { return "toDate('" + t.UTC().Format(time.DateOnly) + "')" }

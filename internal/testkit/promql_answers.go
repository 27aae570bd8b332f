package testkit

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
)

// promqlAnswer is what Prometheus' API answers to a query with samples of floats.
type promqlAnswer struct {
	Status, ErrorType string
	Data              struct {
		ResultType string
		Result     []struct {
			Metric map[string]string
			Value  *[2]any
			Values [][2]any
		}
	}
	Warnings, Infos []string
}

// DifferPromQL says how two answers of Prometheus' API to a query differ: other series, other times, values more than
// 1e-9 of each other apart, other warnings. It returns "" when they are the same.
func DifferPromQL(got, want []byte) string {
	var a, b promqlAnswer
	if err := json.Unmarshal(got, &a); err != nil {
		return fmt.Sprintf("%v in %s", err, got)
	}
	if err := json.Unmarshal(want, &b); err != nil {
		return fmt.Sprintf("%v in %s", err, want)
	}
	if a.Status != b.Status || a.ErrorType != b.ErrorType || a.Data.ResultType != b.Data.ResultType {
		return fmt.Sprintf("got %s %s %s, want %s %s %s",
			a.Status, a.ErrorType, a.Data.ResultType, b.Status, b.ErrorType, b.Data.ResultType)
	}
	if a, b := a.notes(), b.notes(); !slices.Equal(a, b) {
		return fmt.Sprintf("got warnings %q, want %q", a, b)
	}
	return differPoints(a.points(), b.points())
}

func differPoints(a, b map[string][][2]string) string {
	if a, b := slices.Sorted(maps.Keys(a)), slices.Sorted(maps.Keys(b)); !slices.Equal(a, b) {
		return fmt.Sprintf("got series %v, want %v", a, b)
	}
	for name, list := range a {
		if len(list) != len(b[name]) {
			return fmt.Sprintf("%s: got %d points, want %d", name, len(list), len(b[name]))
		}
		for i, p := range list {
			if q := b[name][i]; p[0] != q[0] || !nearly(p[1], q[1]) {
				return fmt.Sprintf("%s: got %v, want %v", name, p, q)
			}
		}
	}
	return ""
}

func nearly(a, b string) bool {
	x, err := strconv.ParseFloat(a, 64)
	y, err2 := strconv.ParseFloat(b, 64)
	return a == b || err == nil && err2 == nil && math.Abs(x-y) <= 1e-9*max(math.Abs(x), math.Abs(y))
}

func (a *promqlAnswer) notes() []string {
	return slices.Sorted(slices.Values(append(slices.Clone(a.Warnings), a.Infos...)))
}

// points are times and values by labels.
func (a *promqlAnswer) points() map[string][][2]string {
	all := make(map[string][][2]string)
	for _, one := range a.Data.Result {
		if one.Value != nil {
			one.Values = append(one.Values, *one.Value)
		}
		name := fmt.Sprint(one.Metric)
		for _, v := range one.Values {
			all[name] = append(all[name], [2]string{fmt.Sprint(v[0]), fmt.Sprint(v[1])})
		}
	}
	return all
}

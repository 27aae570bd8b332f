package clickhouse_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/query/promql"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
	"github.com/vigie-io/vigie/pkg/sketches"
)

// Readers see one row a series and pane, with labels, whether or not the parts below have been merged.
func TestViewsMerge(t *testing.T) {
	server, client := migrated(t, nil)
	at := today(t, server)
	ask(t, server, "SYSTEM STOP MERGES")
	id := series.ID{Hi: 1, Lo: 2}
	for i := range 4 {
		insertRollups(t, client, fmt.Sprint(i),
			row{tenant: "acme", metric: "m", service: "shop", id: id, pane: at, values: []float64{float64(i), 10},
				lastTime: int64(100 - i), last: float64(i)},
			row{grain: pipeline.GrainService, tenant: "acme", metric: "m", service: "shop", pane: at,
				values: []float64{float64(i), 10}})
		insertSeries(t, client, fmt.Sprint("s", i), &pipeline.SeriesRows{
			Tenant: []string{"acme"}, Metric: []string{"m"}, Service: []string{"shop"}, ID: []series.ID{id},
			Kind: []uint8{2}, Native: []bool{false},
			Unit: []string{"s"}, Help: []string{fmt.Sprint("help ", i)},
			Labels: []series.Labels{{{Name: "service", Value: "shop"}}}, LastSeen: []uint32{at + uint32(i)},
		})
	}
	insertRollups(t, client, "unknown",
		row{tenant: "acme", metric: "m", service: "shop", id: series.ID{Lo: 9}, pane: at, values: []float64{1}})
	if got := ask(t, server, "SELECT count() FROM vigie.rollups_10s WHERE series_id = bitShiftLeft(toUInt128(1), 64) + 2"); got != "4" {
		t.Fatalf("stored rows: got %s, want 4 that are not merged", got)
	}
	f := func(query, want string) {
		t.Helper()
		if got := mustTenantSQL(t, client, "acme", query+" FORMAT CSV"); got != want {
			t.Errorf("%s: got %s, want %s", query, got, want)
		}
	}
	for _, tier := range []string{"10s", "1m", "1h"} {
		f("SELECT count, sum, min, max, last, toUnixTimestamp64Nano(last_time), labels, p50(sketch) > 0 FROM api.metrics_"+tier+
			" WHERE labels['service'] = 'shop' GROUP BY ALL", `8,46,0,10,0,100,"{'service':'shop'}",1`)
		f("SELECT count(), sum(count) FROM api.metrics_"+tier, "2,9")
		// A series that has not been announced yet is there, without labels; so is a pane without a level.
		f("SELECT count, last, labels FROM api.metrics_"+tier+" WHERE last IS NULL", `1,\N,"{}"`)
		f("SELECT service, count, sum, min, max FROM api.services_"+tier, `"shop",8,46,0,10`)
		f("SELECT toTypeName(min), toTypeName(max), toTypeName(count), toTypeName(last) FROM api.metrics_"+tier+" LIMIT 1",
			`"Float64","Float64","UInt64","Nullable(Float64)"`)
	}
	f("SELECT metric, service, kind, unit, help, labels, toUnixTimestamp(last_seen) FROM api.series",
		fmt.Sprintf(`"m","shop","gauge","s","help 3","{'service':'shop'}",%d`, at+3))
}

// A series that has ended has no last value in SQL, and is not there in PromQL until it begins again, whichever of a
// pane's parts says so.
func TestEndedSeries(t *testing.T) {
	server, client := migrated(t, nil)
	ask(t, server, "SYSTEM STOP MERGES")
	at, id := today(t, server), series.ID{Lo: 2}
	sample := func(seconds uint32, value float64) {
		second := at + seconds
		one := row{tenant: "acme", metric: "m", id: id, pane: second / 10 * 10, lastTime: int64(second) * 1e9, last: value}
		if one.values = []float64{value}; math.IsInf(value, -1) {
			one.values, one.lastHist = nil, promql.Ended
		}
		insertRollups(t, client, fmt.Sprint(seconds, value), one)
	}
	end := math.Inf(-1)
	for _, one := range []struct {
		seconds uint32
		value   float64
	}{{7, end}, {1, 1}, {12, end}, {14, 3}, {25, -7}, {25, end}, {35, 8}, {65, end}} {
		sample(one.seconds, one.value)
	}
	insertSeries(t, client, "s", &pipeline.SeriesRows{
		Tenant: []string{"acme"}, Metric: []string{"m"}, Service: []string{""}, ID: []series.ID{id},
		Kind: []uint8{uint8(events.Gauge)}, Native: []bool{false},
		Unit: []string{""}, Help: []string{""}, Labels: []series.Labels{{{Name: "a", Value: "b"}}}, LastSeen: []uint32{at},
	})
	for tier, want := range map[string]string{"10s": `(0,\N),(10,3),(20,-7),(30,8),(60,\N)`,
		"1m": `(0,8),(60,\N)`, "1h": `(0,\N)`} {
		got := mustTenantSQL(t, client, "acme",
			fmt.Sprintf("SELECT toUnixTimestamp(ts) - %d, last FROM api.metrics_%s ORDER BY ts FORMAT Values", at, tier))
		if got = strings.ReplaceAll(got, "NULL", `\N`); got != want {
			t.Errorf("%s: got %s, want %s", tier, got, want)
		}
	}
	service := promqlOver(t, client, time.Unix(int64(at)+120, 0))
	for _, pushdown := range []string{"1", "0"} {
		answer := askPromQL(service, "/query_range",
			url.Values{"query": {"max by (a) (m)"}, "start": {fmt.Sprint(at + 10)}, "end": {fmt.Sprint(at + 90)},
				"step": {"10"}, "pushdown": {pushdown}})
		var body struct {
			Data struct{ Result []struct{ Values [][2]any } }
		}
		if err := json.Unmarshal(answer.Body.Bytes(), &body); err != nil || len(body.Data.Result) != 1 {
			t.Fatalf("pushdown %s: %v: %s", pushdown, err, answer.Body)
		}
		var got string
		for _, v := range body.Data.Result[0].Values {
			got += fmt.Sprint(v[0].(float64)-float64(at), ":", v[1], " ")
		}
		if want := "20:3 30:-7 40:8 50:8 60:8 "; got != want {
			t.Errorf("pushdown %s: got %s, want %s", pushdown, got, want)
		}
	}
}

// The server, through the functions of tenants, says of merged sketches what Go says.
func TestQuantilesEqualGo(t *testing.T) {
	server, client := migrated(t, nil)
	at := today(t, server)
	random := rand.New(rand.NewPCG(3, 4))
	all := map[string]*sketches.Sketch{}
	var rows []row
	for i := range 200 {
		// Beyond one sign and around one, where the server's own way of building sketches would be wrong.
		shape := []string{"latency", "tiny", "signed", "edges"}[i%4]
		values := make([]float64, 1+random.IntN(60))
		for j := range values {
			v := math.Exp(random.NormFloat64())
			switch shape {
			case "tiny":
				v *= 1e-6
			case "signed":
				v = random.NormFloat64() * 100
				if random.IntN(10) == 0 {
					v = 0
				}
			case "edges":
				v = math.Exp2(float64(random.IntN(640)-320) / 64)
			}
			values[j] = v
			if all[shape] == nil {
				all[shape] = new(sketches.Sketch)
			}
			all[shape].Add(v)
		}
		rows = append(rows, row{tenant: "acme", metric: shape, id: series.ID{Lo: uint64(i)}, pane: at + uint32(10*(i%30)), values: values})
	}
	insertRollups(t, client, "a", rows[:100]...)
	insertRollups(t, client, "b", rows[100:]...)
	for shape, sketch := range all {
		for _, tier := range []string{"10s", "1m", "1h"} {
			for call, q := range map[string]float64{
				"p50(sketch)": 0.5, "p90(sketch)": 0.9, "p95(sketch)": 0.95, "p99(sketch)": 0.99,
				"quantile_of(0.25, sketch)": 0.25, "quantile_of(0.999, sketch)": 0.999,
				"quantile_of(0, sketch)": 0, "quantile_of(1, sketch)": 1,
			} {
				answer := mustTenantSQL(t, client, "acme", "SELECT "+call+" FROM api.metrics_"+tier+" WHERE metric = '"+shape+"'")
				got, err := strconv.ParseFloat(answer, 64)
				if err != nil {
					t.Fatal(err)
				}
				want, err := sketch.Quantile(q)
				if err != nil {
					t.Fatal(err)
				}
				if math.Abs(got-want) > 1e-12*math.Abs(want) {
					t.Errorf("%s of %s in %s: got %v, want %v", call, shape, tier, got, want)
				}
			}
		}
	}
}

// Conditions of readers reach the primary key and the partitions through the views' aggregation. The server says of a
// projection how many parts are left, not by which condition.
func TestViewsPrune(t *testing.T) {
	server, client := migrated(t, nil)
	at := today(t, server)
	for i := range 3 {
		var rows []row
		for j := range 3000 {
			rows = append(rows, row{tenant: []string{"acme", "demo"}[j%2], metric: fmt.Sprint("m", j/2%50), service: "s", id: series.ID{Lo: uint64(j)}, pane: at - uint32(i*86400), values: []float64{1}})
			rows = append(rows, row{grain: pipeline.GrainService, tenant: []string{"acme", "demo"}[j%2], metric: fmt.Sprint("m", j/2%50), service: fmt.Sprint(j), pane: at - uint32(i*86400), values: []float64{1}})
		}
		insertRollups(t, client, fmt.Sprint(i), rows...)
	}
	for _, view := range []string{"metrics_10s", "metrics_1m", "services_10s", "services_1m"} {
		plan := mustTenantSQL(t, client, "acme", fmt.Sprintf("EXPLAIN indexes = 1 SELECT ts, sum(count) FROM api.%s WHERE metric = 'm7' AND ts >= toDateTime(%d, 'UTC') GROUP BY ts FORMAT TSVRaw", view, at))
		pruned := "toYYYYMMDD(ts)"
		if strings.Contains(plan, "ReadFromMergeTree (states)") {
			pruned = "Parts: 1/1\n"
		}
		for _, want := range []string{"(metric in ['m7', 'm7'])", "(tenant in ['acme', 'acme'])", pruned} {
			if !strings.Contains(plan, want) {
				t.Errorf("%s: got a plan without %s:\n%s", view, want, plan)
			}
		}
		if strings.Contains(plan, "quantilesDD") {
			t.Errorf("%s: got a plan that merges sketches nobody asked for:\n%s", view, plan)
		}
		parts := plan[strings.Index(plan, "PrimaryKey"):]
		if !strings.Contains(parts, "Granules: 1/") {
			t.Errorf("%s: got more than one granule read:\n%s", view, parts)
		}
	}
}

// Every view and column says what it is, where tools look for it.
func TestColumnsAreDescribed(t *testing.T) {
	server, client := migrated(t, nil)
	if got := ask(t, server, "SELECT groupArray(name) FROM system.tables WHERE database = 'api' AND comment = ''"); got != "[]" {
		t.Errorf("views without a comment: got %s, want none (the file that replaces a view has to comment on it again)", got)
	}
	if got := ask(t, server, "SELECT groupArray(table || '.' || name) FROM system.columns WHERE database = 'api' AND comment = ''"); got != "[]" {
		t.Errorf("columns without a comment: got %s, want none (the file that replaces a view has to comment on it again)", got)
	}
	// As a tenant, and readable: a comment fits beside name and type.
	for _, view := range strings.Fields(mustTenantSQL(t, client, "acme", "SHOW TABLES FROM api")) {
		for line := range strings.Lines(mustTenantSQL(t, client, "acme", "DESCRIBE api."+view)) {
			if fields := strings.Split(line, "\t"); len(fields) < 5 || fields[4] == "" || len(fields[4]) > 120 {
				t.Errorf("DESCRIBE api.%s: got %q, want a comment of at most 120 bytes", view, line)
			}
		}
	}
}

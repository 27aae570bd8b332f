package clickhouse_test

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/rollup"
	"github.com/vigie-io/vigie/internal/pipeline/windowed"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/sketches"
)

// distinct_of is the estimate of sketches.Distinct, of states from Go and of merged ones, in every range of sizes.
func TestDistinctOf(t *testing.T) {
	server, _ := migrated(t, nil)
	ask(t, server, "CREATE TABLE vigie.d (n UInt64, s AggregateFunction(uniqCombined64(14), String)) ENGINE = MergeTree ORDER BY n")
	for _, n := range []int{0, 1, 16, 17, 512, 513, 3000, 20_000, 45_000, 60_000, 400_000} {
		var whole, half, other sketches.Distinct
		for i := range n {
			item := fmt.Appendf(nil, "user %d", i)
			whole.Add(item)
			if i < n/2 {
				half.Add(item)
			} else {
				other.Add(item)
			}
		}
		for _, s := range []*sketches.Distinct{&half, &other} {
			ask(t, server, fmt.Sprintf("INSERT INTO vigie.d SELECT %d, CAST(unhex('%x'), 'AggregateFunction(uniqCombined64(14), String)')", n, s.AppendState(nil)))
		}
		text := ask(t, server, fmt.Sprintf("SELECT distinct_of(uniqCombined64MergeState(14)(s)) FROM vigie.d WHERE n = %d", n))
		got, err := strconv.ParseFloat(text, 64)
		if want := whole.Estimate(); err != nil || math.Abs(got-want) > 1e-9*want {
			t.Errorf("%d items: got %q, want %v", n, text, want)
		}
	}
}

// bought is an event of the test, as the plain loop sees it.
type bought struct {
	second     int64
	value      float64
	user, item string
}

// keptWindows are the rows that stream workers write of events, spread over partitions; the last of each closes all
// windows.
func keptWindows(t testing.TB, at int64, evs []bought, partitions int32) (blocks []*windowed.Rows) {
	t.Helper()
	cfg := pipeline.DefaultConfig()
	cfg.Rollups = []rollup.Declared{{
		Name: "kept", From: events.Metrics, Where: `name == "price"`, Window: &windowed.Window{Tumbling: time.Minute},
		Keep: &windowed.Keep{First: true, Last: true, Distinct: "user", Top: &windowed.Top{Of: "item", K: 3, Counters: 40}},
	}}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	now := (at + 600) * 1000
	for p := range partitions {
		partition := pipeline.Partition{Topic: "t", Partition: p}
		task := pipeline.NewTask(pipeline.TaskConfig{Partition: partition, Signal: events.Metrics, Config: cfg})
		var lines []string
		line := func(second int64, value float64, labels string) {
			lines = append(lines, fmt.Sprintf(`{"time":%d,"name":"price","value":%v,"labels":{%s}}`, (at+second)*1000, value, labels))
		}
		for i, e := range evs {
			if int32(i)%partitions == p {
				line(e.second, e.value, fmt.Sprintf(`"user":%q,"item":%q`, e.user, e.item))
			}
		}
		line(300, 1, "")
		task.Step(&pipeline.Chunk{Partition: partition, Signal: events.Metrics, Records: []pipeline.Record{{
			Timestamp: now * 1e6, Key: []byte("acme"), Value: []byte(strings.Join(lines, "\n")),
		}}}, now)
		out := pipeline.NewOutputs(&cfg)
		task.Drain(out, now)
		if n := out.Tally.Events; n != uint64(len(lines)) {
			t.Fatalf("got %d events, want %d", n, len(lines))
		}
		blocks = append(blocks, out.Windows.Blocks...)
	}
	return blocks
}

// What api.windows says of first, last, rate, distinct and top is what a plain loop over the events says, in one
// partition or three, before and after parts are merged; distinct as one state, bit for bit.
func TestKeptMeasures(t *testing.T) {
	server, client := migrated(t, nil)
	at := int64(today(t, server))
	random := rand.New(rand.NewPCG(5, 11))
	var evs []bought
	for range 4000 {
		item := fmt.Sprint("item ", int(math.Abs(random.NormFloat64())*4))
		evs = append(evs, bought{int64(random.IntN(120)), float64(random.IntN(400)) / 8, fmt.Sprint("user ", random.IntN(3000)), item})
	}
	states := map[string]bool{}
	for _, partitions := range []int32{1, 3} {
		ask(t, server, "TRUNCATE TABLE vigie.windows")
		for i, b := range keptWindows(t, at, evs, partitions) {
			insertWindows(t, client, fmt.Sprint("kept/", partitions, "/", i), b)
		}
		for merged := range 2 {
			if merged == 1 {
				ask(t, server, "OPTIMIZE TABLE vigie.windows FINAL")
			}
			for window := range int64(2) {
				from := at + 60*window
				got := mustTenantSQL(t, client, "acme", fmt.Sprintf("SELECT count, rate, first, last, round(distinct_count, 6), top, top_floor, top_total FROM api.windows WHERE start = %d FORMAT CSV", from))
				if want := keptWant(evs, 60*window); got != want {
					t.Errorf("%d partitions, merged %d: got\n%s, want\n%s", partitions, merged, got, want)
				}
				states[mustTenantSQL(t, client, "acme", fmt.Sprintf("SELECT start, hex(sipHash128(CAST(distinct_state, 'String'))) FROM api.windows WHERE start = %d", from))] = true
			}
		}
	}
	keptInPromQL(t, client, evs, at)
	if len(states) != 2 {
		t.Errorf("got states %v, want one a window", states)
	}
	want := keptUsers(evs, 0, 120).Estimate()
	got := mustTenantSQL(t, client, "acme",
		fmt.Sprintf("SELECT distinct_of(uniqCombined64MergeState(14)(distinct_state)) FROM api.windows WHERE start < %d", at+120))
	if n, err := strconv.ParseFloat(got, 64); err != nil || math.Abs(n-want) > 1e-9*want {
		t.Errorf("both windows: got %s users, want %v", got, want)
	}
}

// keptInPromQL asks for the measures as gauges, at the end of each window and until the next has ended.
func keptInPromQL(t *testing.T, client *clickhouse.Client, evs []bought, at int64) {
	t.Helper()
	now := at + 600
	insertProgress(t, client, now, map[string]int64{"": now, "acme": at + 290})
	a := newAsker(t, client, time.Unix(now, 0))
	for i, query := range []string{"kept_rate", "kept_first", "kept_last", "round(kept_distinct, 0.000001)",
		`kept_top{item="item 1"}`, `sum(kept_top{item!="item 1"})`} {
		got := a.matrix(query, at, at+240, 10)[""]
		for second := int64(0); second <= 240; second += 10 {
			value, there := got[at+second]
			if in := second >= 60 && second < 180; in != there {
				t.Errorf("%s at %d: got %v, %v, want it to stand: %v", query, second, value, there, in)
			} else if !in {
				continue
			}
			if want := keptGauges(evs, second/60*60-60)[i]; math.Abs(value-want) > 1e-6 {
				t.Errorf("%s at %d: got %v, want %v", query, second, value, want)
			}
		}
	}
	if got := a.matrix(`kept_top{item="nothing"}`, at, at+240, 10); len(got) != 0 {
		t.Errorf("an item that is not there: got %v", got)
	}
}

// keptGauges are the numbers of a window by the plain loop: rate, first, last, distinct, item 1, and the rest of the
// top three.
func keptGauges(evs []bought, from int64) (values [6]float64) {
	fields := strings.Split(strings.Replace(keptWant(evs, from), `"`, "", 2), ",")
	for i := range 4 {
		values[i], _ = strconv.ParseFloat(fields[1+i], 64)
	}
	for i := range 3 {
		n, _ := strconv.ParseFloat(fields[5+3*i+1], 64)
		if strings.Contains(fields[5+3*i], "'item 1'") {
			values[4] = n
		} else {
			values[5] += n
		}
	}
	return values
}

func keptUsers(evs []bought, from, to int64) *sketches.Distinct {
	users := new(sketches.Distinct)
	for _, e := range evs {
		if e.second >= from && e.second < to {
			users.Add([]byte(e.user))
		}
	}
	return users
}

// keptWant is the row of a window by the plain loop.
func keptWant(evs []bought, from int64) string {
	first, last := bought{second: math.MaxInt64}, bought{second: -1}
	items, count := map[string]int{}, 0
	for _, e := range evs {
		if e.second < from || e.second >= from+60 {
			continue
		}
		count++
		items[e.item]++
		if e.second < first.second || e.second == first.second && e.value < first.value {
			first = e
		}
		if e.second > last.second || e.second == last.second && e.value > last.value {
			last = e
		}
	}
	names := slices.SortedFunc(maps.Keys(items),
		func(a, b string) int { return cmp.Or(items[b]-items[a], strings.Compare(a, b)) })
	var top []string
	for _, name := range names[:3] {
		top = append(top, fmt.Sprintf("('%s',%d,0)", name, items[name]))
	}
	number := func(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
	return fmt.Sprintf(`%d,%s,%s,%s,%s,"[%s]",0,%d`, count, number(float64(count)/60), number(first.value), number(last.value),
		number(math.Round(keptUsers(evs, from, from+60).Estimate()*1e6)/1e6), strings.Join(top, ","), count)
}

// keptRows are two rows of one block: one of a rule that keeps something, and one of a rule that does not.
func keptRows(start int64) *windowed.Rows {
	rows := windowRows("acme", start, windowRow{part: "t/0", version: 1, count: 2, sum: 2.5},
		windowRow{part: "t/1", version: 3, count: 1, sum: 4})
	var distinct sketches.Distinct
	distinct.Add([]byte("ann"))
	rows.Measures = []windowed.Measures{windowed.MeasureFirst | windowed.MeasureLast | windowed.MeasureDistinct | windowed.MeasureTop, 0}
	rows.FirstTime, rows.First = []int64{start*1e9 + 1, 0}, []float64{0.5, 0}
	rows.LastTime, rows.Last = []int64{start*1e9 + 2, 0}, []float64{2, 0}
	rows.Distinct = new(sketches.Distinct).AppendState(distinct.AppendState(nil))
	rows.Top = []windowed.TopRow{{Items: []string{"a", "b"}, Counts: []float64{3, 0}, Errors: []float64{-2, 1}, Floor: 2, Total: 9, K: 10}, {}}
	return rows
}

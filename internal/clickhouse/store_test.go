package clickhouse_test

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/query/promql"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/internal/testkit"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
	"github.com/vigie-io/vigie/pkg/sketches"
)

// oracle is the store as plain loops over what was inserted.
type oracle struct {
	series map[tenants.ID][]oracleSeries
	rows   []row
}

type oracleSeries struct {
	promql.Series
	seen uint32
}

// awkward are texts that quoting, escaping or regular expressions could get wrong.
var awkward = []string{
	"shop", "it's", `back\slash`, "tab\there", "line\nend", "nul\x00byte", "ünïcödé", `"quoted"`, "a.b", "axb", "%",
	"{x:String}", "--", "/*", "", "日本語", `\'`,
}

// fill inserts random series and panes of two tenants, in several blocks with overlapping panes.
func fill(t *testing.T, client *clickhouse.Client, at uint32, random *rand.Rand) *oracle {
	t.Helper()
	o := &oracle{series: map[tenants.ID][]oracleSeries{}}
	rows := &pipeline.SeriesRows{}
	for i := range 300 {
		tenant := []string{"acme", "demo"}[random.IntN(2)]
		metric := []string{"m0", "m1", `m'2\`}[random.IntN(3)]
		pairs := []series.Label{{Name: "n", Value: fmt.Sprint(i)}}
		for _, name := range []string{"service", "x", "y'\\"} {
			if value := awkward[random.IntN(len(awkward))]; value != "" {
				pairs = append(pairs, series.Label{Name: name, Value: value})
			}
		}
		labels, err := series.Sort(pairs)
		if err != nil {
			t.Fatal(err)
		}
		kind := events.Kind(random.IntN(4))
		id := series.Hash(series.AppendKey(nil, byte(kind), metric, labels))
		s := oracleSeries{promql.Series{ID: id, Metric: metric, Kind: kind, Native: random.IntN(5) == 0, Labels: labels},
			at + uint32(random.IntN(3600))}
		o.series[tenants.ID(tenant)] = append(o.series[tenants.ID(tenant)], s)
		for range 1 + random.IntN(2) { // announced once or twice
			rows.Tenant = append(rows.Tenant, tenant)
			rows.Metric = append(rows.Metric, metric)
			rows.Service = append(rows.Service, labels.Get("service"))
			rows.ID = append(rows.ID, id)
			rows.Kind = append(rows.Kind, uint8(kind))
			rows.Native = append(rows.Native, s.Native)
			rows.Unit = append(rows.Unit, "s")
			rows.Help = append(rows.Help, "help of "+metric)
			rows.Labels = append(rows.Labels, labels)
			rows.LastSeen = append(rows.LastSeen, s.seen)
		}
		for range random.IntN(12) {
			o.rows = append(o.rows, randomRow(random, tenant, s.Series, at))
		}
	}
	insertSeries(t, client, "series", rows)
	random.Shuffle(len(o.rows), func(i, j int) { o.rows[i], o.rows[j] = o.rows[j], o.rows[i] })
	for i, part := range slices.Collect(slices.Chunk(o.rows, 500)) {
		insertRollups(t, client, fmt.Sprintf("rollups/%d", i), part...)
	}
	return o
}

func randomRow(random *rand.Rand, tenant string, s promql.Series, at uint32) row {
	r := row{tenant: tenant, metric: s.Metric, service: s.Labels.Get("service"), id: s.ID, pane: at + 10*uint32(random.IntN(30))}
	for range 1 + random.IntN(5) {
		r.values = append(r.values, float64(random.IntN(4000)-1000)/64) // dyadic: sums are exact
	}
	if s.Kind >= events.Gauge {
		r.lastTime = int64(r.pane)*1e9 + int64(random.IntN(10e9))
		r.last = random.Float64()
		if s.Native {
			r.lastHist = string([]byte{0, 1, byte(random.IntN(256)), '\''})
		}
	}
	return r
}

func (o *oracle) find(tenant tenants.ID, metrics []string, matchers []promql.Matcher, since int64) []promql.Series {
	var out []promql.Series
	for _, s := range o.series[tenant] {
		if !slices.Contains(metrics, s.Metric) || int64(s.seen)*1000 < since {
			continue
		}
		if !slices.ContainsFunc(matchers, func(m promql.Matcher) bool { return !matches(m, s.Labels.Get(m.Name)) }) {
			out = append(out, s.Series)
		}
	}
	slices.SortFunc(out, func(a, b promql.Series) int { return cmp.Or(cmp.Compare(a.Metric, b.Metric), a.ID.Compare(b.ID)) })
	return out
}

func matches(m promql.Matcher, value string) bool {
	switch m.Op {
	case "=":
		return value == m.Value
	case "!=":
		return value != m.Value
	}
	return regexp.MustCompile("^(?s:"+m.Value+")$").MatchString(value) == (m.Op == "=~")
}

type paneKey struct {
	id    series.ID
	start int64
}

type oraclePane struct {
	pane   promql.Pane
	sketch sketches.Sketch
}

func (o *oracle) panes(tenant tenants.ID, q promql.PaneQuery) (keys []paneKey, panes map[paneKey]*oraclePane) {
	panes = map[paneKey]*oraclePane{}
	width := int64(time.Duration(q.Tier) / time.Millisecond)
	for _, r := range o.rows {
		start := int64(r.pane) * 1000 / width * width
		if r.tenant != string(tenant) || !slices.Contains(q.Metrics, r.metric) || !slices.Contains(q.IDs, r.id) ||
			start < q.From || start >= q.To {
			continue
		}
		key := paneKey{r.id, start}
		if q.Groups != nil {
			key.id = series.ID{Lo: uint64(q.Groups[slices.Index(q.IDs, r.id)])}
		}
		p := panes[key]
		if p == nil {
			p = &oraclePane{pane: promql.Pane{Start: start}}
			panes[key] = p
		}
		for _, v := range r.values {
			if q.Count {
				p.pane.Count++
			}
			if q.Sum {
				p.pane.Sum += v
			}
			p.sketch.Add(v)
		}
		if q.Last && (r.lastTime > p.pane.LastTime || r.lastTime == p.pane.LastTime && r.last > p.pane.Last) {
			p.pane.LastTime, p.pane.Last, p.pane.LastHist = r.lastTime, r.last, r.lastHist
		}
	}
	keys = slices.SortedFunc(maps.Keys(panes), func(a, b paneKey) int {
		return cmp.Or(a.id.Compare(b.id), cmp.Compare(a.start, b.start))
	})
	return keys, panes
}

func TestStoreAgainstOracle(t *testing.T) {
	server, client := migrated(t, nil)
	at := today(t, server)
	random := rand.New(rand.NewPCG(1, 2))
	o := fill(t, client, at, random)
	for _, compression := range []string{clickhouse.CompressionNone, clickhouse.CompressionZstd} {
		t.Run(compression, func(t *testing.T) {
			cfg := clickhouse.DefaultConfig()
			cfg.Addrs, cfg.Password, cfg.Compression = []string{server.HTTPAddr}, access().ServicePassword, compression
			client, err := clickhouse.NewClient(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			store := clickhouse.NewStore(client)
			t.Run("metas", func(t *testing.T) { checkMetas(t, store, o) })
			t.Run("series", func(t *testing.T) { checkSeries(t, store, o, at, random) })
			t.Run("panes", func(t *testing.T) { checkPanes(t, store, o, at, random) })
			t.Run("cardinality", func(t *testing.T) { checkCardinality(t, store, o, at) })
			t.Run("errors", func(t *testing.T) { checkStoreErrors(t, store, o, at) })
		})
	}
}

func checkMetas(t *testing.T, store *clickhouse.Store, o *oracle) {
	for tenant, all := range o.series {
		want := map[string]bool{}
		for _, s := range all {
			key := fmt.Sprint(s.Metric, s.Kind)
			want[key] = want[key] || s.Native
		}
		got, err := store.Metas(t.Context(), tenant, 0)
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]bool{}
		for _, m := range got {
			found[fmt.Sprint(m.Metric, m.Kind)] = m.Native
			if m.Unit != "s" || m.Help != "help of "+m.Metric {
				t.Errorf("got %+v, want unit s and its help", m)
			}
		}
		if !maps.Equal(found, want) || len(got) != len(want) {
			t.Errorf("tenant %s: got %v, want %v", tenant, found, want)
		}
	}
	if got, err := store.Metas(t.Context(), "nobody", 0); err != nil || len(got) != 0 {
		t.Errorf("a tenant without data: got %v, %v, want nothing", got, err)
	}
}

func checkSeries(t *testing.T, store *clickhouse.Store, o *oracle, at uint32, random *rand.Rand) {
	expressions := []string{"", ".*", ".+", "a.b", "shop|it's", "[a-z]+", "line.end", "(?i)SHOP", `\p{L}+`,
		"日.*", "nul.byte", `back\\slash`}
	for range 150 {
		tenant := []tenants.ID{"acme", "demo"}[random.IntN(2)]
		metrics := [][]string{{"m0"}, {"m0", `m'2\`}, {"m0", "m1", `m'2\`, "none"}, {"none"}}[random.IntN(4)]
		var matchers []promql.Matcher
		for range random.IntN(3) {
			m := promql.Matcher{Name: []string{"service", "x", "y'\\", "absent"}[random.IntN(4)],
				Op: []string{"=", "!=", "=~", "!~"}[random.IntN(4)]}
			if len(m.Op) == 2 && m.Op != "!=" {
				m.Value = expressions[random.IntN(len(expressions))]
			} else {
				m.Value = awkward[random.IntN(len(awkward))]
			}
			matchers = append(matchers, m)
		}
		since := []int64{0, int64(at+1800) * 1000}[random.IntN(2)]
		want := o.find(tenant, metrics, matchers, since)
		q := promql.SeriesQuery{Metrics: metrics, Closed: metrics, Matchers: matchers, Since: since}
		got, err := store.Series(t.Context(), tenant, q)
		if err != nil {
			t.Fatalf("%q %+v: %v", metrics, matchers, err)
		}
		if len(got)+len(want) > 0 && !reflect.DeepEqual(got, want) {
			t.Fatalf("%s %q %+v since %d: got %d series %v, want %d %v",
				tenant, metrics, matchers, since, len(got), got, len(want), want)
		}
		if limit := 1 + random.IntN(20); len(want) > limit {
			q.Limit, q.Closed = limit, nil
			if got, err = store.Series(t.Context(), tenant, q); err != nil || !reflect.DeepEqual(got, want[:limit]) {
				t.Fatalf("limit %d: got %d series, %v, want the first %d", limit, len(got), err, limit)
			}
		}
	}
}

func checkPanes(t *testing.T, store *clickhouse.Store, o *oracle, at uint32, random *rand.Rand) {
	for i := range 60 {
		tenant := []tenants.ID{"acme", "demo"}[i%2]
		q := promql.PaneQuery{
			Metrics: [][]string{{"m0"}, {"m1"}, {`m'2\`}, {"m0", `m'2\`}, {"m0", "m1", `m'2\`, "none"}}[random.IntN(5)],
			Tier:    []promql.Tier{promql.Tier10s, promql.Tier1m, promql.Tier1h}[random.IntN(3)],
			From:    int64(at)*1000 + int64(random.IntN(200))*1000, To: int64(at)*1000 + 100_000 + int64(random.IntN(300))*1000,
			Count: random.IntN(2) == 0, Sum: random.IntN(2) == 0, Sketch: random.IntN(2) == 0, Last: random.IntN(2) == 0,
		}
		if q.Tier == promql.Tier1h {
			q.From = int64(at) * 1000
		}
		if q.Tier > promql.Tier10s && random.IntN(2) == 0 {
			behind(&q, random)
		}
		// Also ids of the other tenant and of other metrics, which must not be answered.
		for _, all := range o.series {
			for _, s := range all {
				if random.IntN(3) > 0 {
					q.IDs = append(q.IDs, s.ID)
				}
			}
		}
		if !q.Last && random.IntN(2) == 0 {
			for range q.IDs {
				q.Groups = append(q.Groups, uint32(random.IntN(5)))
			}
		}
		keys, want := o.panes(tenant, q)
		at := 0
		err := store.Panes(t.Context(), tenant, q, func(id series.ID, p *promql.Pane) error {
			if at >= len(keys) || keys[at] != (paneKey{id, p.Start}) {
				t.Fatalf("pane %d: got %s at %d, want %v", at, id, p.Start, keys[min(at, len(keys)-1)])
			}
			checkPane(t, p, want[keys[at]], q.Sketch)
			at++
			return nil
		})
		if err != nil || at != len(keys) {
			t.Fatalf("%+v: got %d panes, %v, want %d", q.Metrics, at, err, len(keys))
		}
	}
}

// behind has the panes of a query made of finer tiers.
func behind(q *promql.PaneQuery, random *rand.Rand) {
	width := time.Duration(q.Tier).Milliseconds()
	q.From, q.To = q.From/width*width, (q.To+width-1)/width*width
	from := q.From
	if q.Tier == promql.Tier1h {
		q.Finer = append(q.Finer, promql.Stretch{Tier: promql.Tier1m, From: from})
		from += 60_000 * int64(1+random.IntN(5))
	}
	q.Finer = append(q.Finer, promql.Stretch{Tier: promql.Tier10s, From: from})
}

// Panes of services come from the tiers that are kept by service, apart or together, of one tenant and metric.
func TestServicePanes(t *testing.T) {
	server, client := migrated(t, nil)
	at, random, store := today(t, server), rand.New(rand.NewPCG(3, 4)), clickhouse.NewStore(client)
	var rows []row
	known := &pipeline.SeriesRows{}
	for _, tenant := range []string{"acme", "demo"} {
		services := awkward
		if tenant == "demo" {
			services = append(slices.Clone(awkward), "of demo alone")
		}
		for i, service := range services {
			labels, err := series.Sort([]series.Label{{Name: "n", Value: tenant}, {Name: "service", Value: service}})
			if service == "" {
				labels, err = series.Sort([]series.Label{{Name: "n", Value: tenant}})
			}
			if err != nil {
				t.Fatal(err)
			}
			known.Tenant, known.Metric, known.Service = append(known.Tenant, tenant), append(known.Metric, "m0"), append(known.Service, service)
			known.ID, known.Kind, known.Native = append(known.ID, series.ID{Lo: uint64(i)}), append(known.Kind, 0), append(known.Native, false)
			known.Unit, known.Help, known.Labels = append(known.Unit, ""), append(known.Help, ""), append(known.Labels, labels)
			known.LastSeen = append(known.LastSeen, at)
			for range 5 {
				r := randomRow(random, tenant,
					promql.Series{Metric: []string{"m0", "m1"}[random.IntN(2)], ID: series.ID{Lo: 9}}, at)
				r.grain, r.service, r.id = pipeline.GrainService, service, series.ID{}
				rows = append(rows, r)
			}
		}
	}
	insertSeries(t, client, "series", known)
	insertRollups(t, client, "services", rows...)
	names, err := store.Services(t.Context(), "acme", "m0", nil, 0)
	if want := slices.Sorted(slices.Values(awkward)); err != nil || !slices.Equal(names, want) {
		t.Fatalf("services: got %q, %v, want %q", names, err, want)
	}
	for _, op := range []string{"=", "!=", "=~", "!~"} {
		m := promql.Matcher{Name: "service", Op: op, Value: "a.b|it's|"}
		got, err := store.Services(t.Context(), "acme", "m0", []promql.Matcher{m}, 0)
		want := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !matches(m, name) })
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("services that meet %s %q: got %q, %v, want %q", op, m.Value, got, err, want)
		}
	}
	if _, err := store.Services(t.Context(), "acme", "m0", []promql.Matcher{{Name: "x", Op: "="}}, 0); err == nil {
		t.Error("a matcher on another label: got no error")
	}
	for _, merged := range []bool{false, true} {
		if merged {
			for _, tier := range []string{"10s", "1m", "1h"} {
				ask(t, server, "OPTIMIZE TABLE vigie.services_"+tier+" FINAL")
			}
		}
		servicePanes(t, server, store, names, rows, at)
	}
}

// servicePanes compares panes of some services with those of rows.
func servicePanes(t *testing.T, server *testkit.Server, store *clickhouse.Store, names []string, rows []row, at uint32) {
	t.Helper()
	for _, together := range []bool{false, true} {
		for _, tier := range []promql.Tier{promql.Tier10s, promql.Tier1m, promql.Tier1h} {
			q := promql.PaneQuery{Metrics: []string{"m0"}, Tier: tier, From: int64(at) * 1000, To: int64(at)*1000 + 200_000, Count: true,
				Sum: true, Sketch: true, Services: names[3:], Together: together}
			panesOfServices(t, server, store, q, rows)
			if tier > promql.Tier10s {
				behind(&q, rand.New(rand.NewPCG(3, 5)))
				panesOfServices(t, server, store, q, rows)
			}
		}
	}
}

func panesOfServices(t *testing.T, server *testkit.Server, store *clickhouse.Store, q promql.PaneQuery, rows []row) {
	t.Helper()
	o := &oracle{}
	for _, r := range rows {
		if i := slices.Index(q.Services, r.service); i >= 0 {
			if r.id = (series.ID{Lo: uint64(i)}); q.Together {
				r.id = series.ID{}
			}
			o.rows = append(o.rows, r)
		}
	}
	plain := q
	for i := range q.Services {
		plain.IDs = append(plain.IDs, series.ID{Lo: uint64(i)})
	}
	keys, want := o.panes("acme", plain)
	statement, err := clickhouse.PanesQuery("acme", q)
	if err != nil {
		t.Fatal(err)
	}
	// Else the server unpacks and packs each sketch.
	if plan := ask(t, server, "EXPLAIN "+statement); !q.Together && !strings.Contains(plan, "ReadFromMergeTree (states)") {
		t.Errorf("sketches are not read from the projection: %s\n%s", statement, plan)
	}
	n := 0
	err = store.Panes(t.Context(), "acme", q, func(id series.ID, p *promql.Pane) error {
		if n >= len(keys) || keys[n] != (paneKey{id, p.Start}) {
			t.Fatalf("pane %d: got %s at %d, want %v", n, id, p.Start, keys[min(n, len(keys)-1)])
		}
		checkPane(t, p, want[keys[n]], true)
		n++
		return nil
	})
	if err != nil || n != len(keys) || n == 0 {
		t.Fatalf("%s: got %d panes, %v, want %d", statement, n, err, len(keys))
	}
}

func checkPane(t *testing.T, got *promql.Pane, want *oraclePane, sketch bool) {
	t.Helper()
	plain := *got
	plain.Sketch = nil
	if !reflect.DeepEqual(plain, want.pane) {
		t.Fatalf("got %+v, want %+v", plain, want.pane)
	}
	if !sketch {
		if len(got.Sketch) > 0 {
			t.Fatalf("got a sketch of %d bytes, want none", len(got.Sketch))
		}
		return
	}
	var s sketches.Sketch
	for states := got.Sketch; len(states) > 0; {
		var one sketches.Sketch
		n, err := one.DecodeDD(states)
		if err != nil {
			t.Fatalf("decode sketch: %d of %d bytes, %v", n, len(states), err)
		}
		s.Merge(&one)
		states = states[n:]
	}
	if !bytes.Equal(s.AppendDD(nil), want.sketch.AppendDD(nil)) {
		t.Fatalf("got sketch %x, want %x", s.AppendDD(nil), want.sketch.AppendDD(nil))
	}
}

func checkStoreErrors(t *testing.T, store *clickhouse.Store, o *oracle, at uint32) {
	_, err := store.Series(t.Context(), "acme", promql.SeriesQuery{Metrics: []string{"m0"}, Matchers: []promql.Matcher{{Name: "x", Op: "=~", Value: "("}}})
	var exception *clickhouse.Error
	if !errors.As(err, &exception) || exception.Code != 427 {
		t.Errorf("broken expression: got %v, want exception 427", err)
	}
	if _, err := store.Series(t.Context(), "acme", promql.SeriesQuery{Metrics: []string{"m0"}, Matchers: []promql.Matcher{{Name: "x", Op: "~"}}}); err == nil {
		t.Error("unknown operator: got no error")
	}
	q := promql.PaneQuery{Metrics: []string{"m0"}, Tier: promql.Tier10s, From: 0, To: int64(at+7200) * 1000}
	for _, s := range o.series["acme"] {
		q.IDs = append(q.IDs, s.ID)
	}
	stop, calls := errors.New("enough"), 0
	err = store.Panes(t.Context(), "acme", q, func(series.ID, *promql.Pane) error { calls++; return stop })
	if !errors.Is(err, stop) || calls != 1 {
		t.Errorf("yield error: got %v after %d calls, want it after 1", err, calls)
	}
	q.Tier = promql.Tier(time.Second)
	if err := store.Panes(t.Context(), "acme", q, nil); err == nil {
		t.Error("unknown tier: got no error")
	}
}

// Many series need several statements, and come in order across them.
func TestPanesOfManySeries(t *testing.T) {
	server, client := migrated(t, nil)
	at := today(t, server)
	const n = 10_000
	rows := make([]row, n)
	q := promql.PaneQuery{Metrics: []string{"m"}, Tier: promql.Tier10s, From: int64(at) * 1000, To: int64(at)*1000 + 1, Sum: true}
	for i := range rows {
		id := series.Hash([]byte(fmt.Sprint(i)))
		rows[i] = row{tenant: "acme", metric: "m", service: fmt.Sprint(i % 7), id: id, pane: at, values: []float64{float64(i)}}
		q.IDs = append(q.IDs, id)
	}
	insertRollups(t, client, "t", rows...)
	var previous series.ID
	count, sum := 0, 0.0
	err := clickhouse.NewStore(client).Panes(t.Context(), "acme", q, func(id series.ID, p *promql.Pane) error {
		if id.Compare(previous) <= 0 {
			t.Fatalf("got %s after %s, want ascending", id, previous)
		}
		previous = id
		count++
		sum += p.Sum
		return nil
	})
	if err != nil || count != n || sum != n*(n-1)/2 {
		t.Errorf("got %d panes with sum %v, %v, want %d with %v", count, sum, err, n, n*(n-1)/2)
	}
}

// A read that meets a limit of the server says which, for the tenant.
func TestReadLimit(t *testing.T) {
	server, client := migrated(t, nil)
	at := today(t, server)
	cfg := clickhouse.DefaultConfig()
	cfg.Addrs, cfg.Password, cfg.ReadMemory = []string{server.HTTPAddr}, access().ServicePassword, 16<<20
	small, err := clickhouse.NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer small.Close()
	var rows []row
	q := promql.PaneQuery{Metrics: []string{"big"}, Tier: promql.Tier10s, From: int64(at) * 1000, To: int64(at+7200) * 1000, Sketch: true}
	for i := range 4000 {
		id := series.Hash([]byte(fmt.Sprint(i)))
		values := make([]float64, 200)
		for j := range values {
			values[j] = math.Exp(float64(j) / 10)
		}
		q.IDs = append(q.IDs, id)
		rows = append(rows, row{tenant: "acme", metric: "big", id: id, pane: at, values: values})
	}
	insertRollups(t, client, "big", rows...)
	err = clickhouse.NewStore(small).Panes(t.Context(), "acme", q, func(series.ID, *promql.Pane) error { return nil })
	var exception *clickhouse.Error
	if !errors.As(err, &exception) || exception.Code != 241 || !strings.Contains(err.Error(), "big") {
		t.Errorf("got %v, want exception 241 naming the metric", err)
	}
	var limit *promql.LimitError
	if !errors.As(err, &limit) || limit.Limit != "clickhouse.read_memory" || strings.Contains(limit.Error(), "Code") {
		t.Errorf("got %v, want a limit in words for the tenant", err)
	}
}

package clickhouse_test

import (
	"encoding/hex"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/coarse"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/testkit"
	"github.com/vigie-io/vigie/migrations"
	"github.com/vigie-io/vigie/pkg/series"
	"github.com/vigie-io/vigie/pkg/sketches"
)

// tierTable is a table of rollups.
type tierTable struct {
	grain pipeline.Grain
	name  string
	width uint32 // seconds
}

func tierTables() (all []tierTable) {
	for name, width := range map[string]uint32{"10s": 10, "1m": 60, "1h": 3600} {
		all = append(all, tierTable{pipeline.GrainSeries, "rollups_" + name, width},
			tierTable{pipeline.GrainService, "services_" + name, width})
	}
	return all
}

// recount is a plain loop over rows: what a table with all of them holds, by tenant, metric, service, series and window.
func (table tierTable) recount(rows []row) map[string]string {
	of := map[string][]row{}
	for _, r := range rows {
		if r.grain == table.grain {
			key := fmt.Sprint(r.tenant, " ", r.metric, " ", r.service, " ", r.id.Lo, " ", r.pane-r.pane%table.width)
			of[key] = append(of[key], r)
		}
	}
	out := map[string]string{}
	for key, list := range of {
		var (
			sketch      sketches.Sketch
			sum         float64
			count       int
			least, most float64
			last        row
		)
		for _, r := range list {
			for _, v := range r.values {
				if sketch.Add(v); count == 0 || v < least {
					least = v
				}
				if count == 0 || v > most {
					most = v
				}
				sum += v
				count++
			}
			if r.lastTime > last.lastTime {
				last = r
			}
		}
		level := fmt.Sprintf("(%d,%v,'')", last.lastTime, last.last)
		if table.grain == pipeline.GrainService {
			level = ""
		}
		out[key] = fmt.Sprintf("%d %v %v %v %s %x", count, sum, least, most, level, sketch.AppendDD(nil))
	}
	return out
}

// content is what the table holds, in the form of recount.
func (table tierTable) content(t *testing.T, server *testkit.Server) map[string]string {
	t.Helper()
	id, level := "0", "''"
	if table.grain == pipeline.GrainSeries {
		id, level = "r.series_id", "toString(max(r.last))"
	}
	answer := ask(t, server, fmt.Sprintf("SELECT concatWithSeparator(' ', r.tenant, r.metric, r.service, %s, toUnixTimestamp(r.ts)) AS key, "+
		"concatWithSeparator(' ', sum(r.count), sum(r.sum), min(r.min), max(r.max), %s), hex(CAST(%s, 'String')) FROM vigie.%s AS r GROUP BY key FORMAT TSVRaw",
		id, level, migrations.MergeStates("r.sketch"), table.name))
	out := map[string]string{}
	for line := range strings.Lines(answer) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		state, err := hex.DecodeString(fields[2])
		var sketch sketches.Sketch
		if n, decoding := sketch.DecodeDD(state); err != nil || decoding != nil || n != len(state) {
			t.Fatalf("%s: state %s: %v, %v", table.name, fields[2], err, decoding)
		}
		out[fields[0]] = fmt.Sprintf("%s %x", fields[1], sketch.AppendDD(nil)) // both spelled by us
	}
	return out
}

// holds fails the test when a table holds anything else than rows, which are its own.
func (table tierTable) holds(t *testing.T, server *testkit.Server, at string, rows []row) {
	t.Helper()
	got, want := table.content(t, server), table.recount(rows)
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if got[key] != want[key] {
			t.Fatalf("%s: %s: %s: got %q, want %q", at, table.name, key, got[key], want[key])
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%s: %s: got %d rows, want %d", at, table.name, len(got), len(want))
	}
}

// drawRows are rows of two tenants within some minutes and hours, of both grains.
func drawRows(random *rand.Rand, at uint32, n int) (rows []row) {
	for range n {
		r := row{tenant: []string{"acme", "demo"}[random.IntN(2)], metric: []string{"m", "n"}[random.IntN(2)], service: "shop",
			pane: at + 3600*uint32(random.IntN(2)) + 10*uint32(random.IntN(20))}
		for range 1 + random.IntN(5) {
			r.values = append(r.values, float64(random.IntN(4000)-1000)/4)
		}
		if random.IntN(3) == 0 {
			r.grain = pipeline.GrainService
		} else {
			r.id, r.lastTime = series.ID{Lo: random.Uint64N(5)}, 1+random.Int64N(1<<40)
			r.last = r.values[0]
		}
		rows = append(rows, r)
	}
	return rows
}

// Migrations 0029 and 0030 change how tables are read and filled while there are rows in them: these stay as they are, and
// whatever comes in by the ingest tables of before and of now is in its tiers once. A crash between two statements is
// made good by running them again.
func TestMigrateRowsOfBefore(t *testing.T) {
	files := migrations.All()
	statements, err := files[29].Statements(migrations.Target{Owner: clickhouse.UserService, ViewOwner: clickhouse.UserViewOwner})
	if err != nil || files[28].Name != "0029_coarser_states.sql" || files[29].Name != "0030_coarse.sql" {
		t.Fatal(files[28].Name, files[29].Name, err)
	}
	server, client := newServer(t, nil)
	if err := client.MigrateTo(t.Context(), 28); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(29, 30))
	at := today(t, server)
	inTier := map[uint32][]row{}
	filled := func(rows []row, widths ...uint32) []row {
		for _, width := range widths {
			inTier[width] = append(inTier[width], rows...)
		}
		return rows
	}
	all := []uint32{10, 60, 3600}
	check := func(when string) {
		t.Helper()
		for _, table := range tierTables() {
			table.holds(t, server, when, inTier[table.width])
		}
	}
	for n := range 4 {
		insertRows(t, client, pipeline.TableRollups, fmt.Sprint("before/", n), filled(drawRows(random, at, 300), all...)...)
	}
	last := filled(drawRows(random, at, 300), all...)
	insertRows(t, client, pipeline.TableRollups, "last", last...)
	insertReach(t, client, pipeline.TableProgress, 1000, 5000)
	check("before")

	if err := client.MigrateTo(t.Context(), 29); err != nil {
		t.Fatal(err)
	}
	check("0029")
	for _, table := range tierTables() {
		if table.grain == pipeline.GrainService {
			statesOfAllParts(t, server, table.name)
		}
	}

	for _, statement := range statements[:random.IntN(len(statements))] {
		ask(t, server, statement)
	}
	if _, err := client.Migrate(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	check("0030")
	// A block that is inserted on both sides of 0030 is what CHANGELOG.md warns of: the wider tiers get it by other views, and
	// ClickHouse remembers tokens by view.
	insertRows(t, client, pipeline.TableRollups, "last", filled(last, 60, 3600)...)
	check("a block of before, again")
	if got := ask(t, server, "SELECT * FROM vigie.coarse_progress FINAL"); got != ask(t, server, "SELECT * FROM vigie.progress FINAL") || got == "" {
		t.Errorf("got progress %q of the wider tiers, want what there was", got)
	}

	// One row is in the panes that were there, and in others.
	for _, way := range []struct {
		table  string
		widths []uint32
	}{{pipeline.TableRollups, all}, {pipeline.TablePanes, []uint32{10}}, {coarse.TableMinutes, []uint32{60, 3600}}} {
		rows := filled(drawRows(random, at, 300), way.widths...)
		for range 2 {
			insertRows(t, client, way.table, "after", rows...)
			check(way.table)
		}
	}
	for _, table := range tierTables() {
		ask(t, server, "OPTIMIZE TABLE vigie."+table.name+" FINAL")
	}
	check("all parts merged")
}

// statesOfAllParts waits until mutations of a table are done, and fails the test when a part has no states then.
func statesOfAllParts(t *testing.T, server *testkit.Server, table string) {
	t.Helper()
	for ask(t, server, "SELECT count() FROM system.mutations WHERE NOT is_done AND table = '"+table+"'") != "0" {
		time.Sleep(50 * time.Millisecond)
	}
	parts := ask(t, server, "SELECT count() FROM system.parts WHERE database = 'vigie' AND active AND table = '"+table+"'")
	states := ask(t, server, "SELECT count() FROM system.projection_parts WHERE database = 'vigie' AND active AND name = 'states' AND table = '"+table+"'")
	if states != parts || parts == "0" {
		t.Errorf("%s: got %s parts with states of %s, want all", table, states, parts)
	}
}

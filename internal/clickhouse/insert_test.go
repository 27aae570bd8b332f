package clickhouse_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/coarse"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/sink"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/internal/testkit"
	"github.com/vigie-io/vigie/pkg/series"
)

var rollupTables = []string{"rollups_10s", "rollups_1m", "rollups_1h", "services_10s", "services_1m", "services_1h"}

// totals is count and sum of every rollup table.
func totals(t *testing.T, server *testkit.Server) string {
	t.Helper()
	var parts []string
	for _, table := range rollupTables {
		parts = append(parts, fmt.Sprintf("SELECT '%s', sum(count), sum(sum), min(min), max(max), count(DISTINCT ts) FROM vigie.%s", table, table))
	}
	return ask(t, server, "SELECT * FROM ("+strings.Join(parts, " UNION ALL ")+") ORDER BY ALL FORMAT CSV")
}

// epoch is what a worker would write: n panes of one series, and the same grouped by service.
func epoch(at uint32, n int) (rows []row) {
	for i := range n {
		pane := at + uint32(10*i)
		rows = append(rows,
			row{tenant: "acme", metric: "m", service: "shop", id: series.ID{Hi: 1, Lo: 2}, pane: pane,
				values: []float64{1, 2, float64(i)}},
			row{grain: pipeline.GrainService, tenant: "acme", metric: "m", service: "shop", pane: pane,
				values: []float64{1, 2, float64(i)}})
	}
	return rows
}

func TestInsertIsExactInEveryTier(t *testing.T) {
	server, client := migrated(t, nil)
	at := today(t, server)
	insertRollups(t, client, "topic/0/1", epoch(at, 12)...)
	want := totals(t, server)
	for _, line := range strings.Split(want, "\n") {
		panes := map[string]string{"10s": "12", "1m": "2", "1h": "1"}
		table, tier, _ := strings.Cut(strings.Trim(line[:strings.Index(line, ",")], `"`), "_")
		if full := fmt.Sprintf(`"%s_%s",36,102,0,11,%s`, table, tier, panes[tier]); line != full {
			t.Errorf("got %s, want %s", line, full)
		}
	}

	// The same record again, once more, and by sixteen who do not know of each other.
	insertRollups(t, client, "topic/0/1", epoch(at, 12)...)
	var wait sync.WaitGroup
	for range 16 {
		wait.Go(func() { insertRollups(t, client, "topic/0/1", epoch(at, 12)...) })
	}
	wait.Wait()
	if got := totals(t, server); got != want {
		t.Errorf("the same token again: got %s, want %s", got, want)
	}

	// 17 times dropped, by each table behind it that got rows.
	if got := client.Duplicates(t.Context())[server.HTTPAddr]; got < 17*6 || got%17 != 0 {
		t.Errorf("duplicates: got %d, want 17 for each table", got)
	}

	// Equal rows under another token are other deltas.
	insertRollups(t, client, "topic/0/2", epoch(at, 12)...)
	if got := ask(t, server, "SELECT sum(count) FROM vigie.rollups_1h"); got != "72" {
		t.Errorf("another token: got count %s, want 72", got)
	}
}

// A block whose rows lie days apart becomes several parts, each of which is remembered.
func TestInsertOfLateRows(t *testing.T) {
	server, client := migrated(t, nil)
	at := today(t, server)
	var rows []row
	for day := range uint32(3) {
		rows = append(rows, epoch(at-day*86400, 2)...)
	}
	for range 3 {
		insertRollups(t, client, "topic/0/1", rows...)
	}
	for _, table := range rollupTables {
		if got := ask(t, server, "SELECT sum(count) FROM vigie."+table); got != "18" {
			t.Errorf("%s: got count %s, want 18", table, got)
		}
	}
}

func TestInsertSurvivesKill(t *testing.T) {
	server, client := migrated(t, nil)
	at := today(t, server)
	for i := range 3 {
		token := fmt.Sprintf("topic/0/%d", i)
		insertRollups(t, client, token, epoch(at, 5)...)
		server.Kill()
		block, err := clickhouse.Encoder{}.EncodeRollups(nil, rollups(epoch(at, 5)...))
		if err != nil {
			t.Fatal(err)
		}
		if err := client.Insert(t.Context(), pipeline.TableRollups, token, 10, block); !clickhouse.IsRetryable(err) {
			t.Fatalf("insert into a dead server: got %v, want an error worth a retry", err)
		}
		server.Restart()
		insertRollups(t, client, token, epoch(at, 5)...)
		for _, table := range rollupTables {
			if got, want := ask(t, server, "SELECT sum(count) FROM vigie."+table), fmt.Sprint(15*(i+1)); got != want {
				t.Fatalf("%s after kill %d: got count %s, want %s", table, i, got, want)
			}
		}
	}
}

func TestInsertErrors(t *testing.T) {
	server, client := newServer(t, nil)
	at := today(t, server)
	good, err := clickhouse.Encoder{}.EncodeRollups(nil, rollups(epoch(at, 2)...))
	if err != nil {
		t.Fatal(err)
	}
	insert := func(table string, block []byte) error {
		return client.Insert(t.Context(), table, "token", 4, block)
	}
	if err := insert(pipeline.TableRollups, good); !clickhouse.IsRetryable(err) {
		t.Errorf("no table yet: got %v, want an error worth a retry", err)
	}
	if _, err := client.Migrate(t.Context(), false); err != nil {
		t.Fatal(err)
	}

	refused := func(name, table string, block []byte) {
		t.Helper()
		if err := insert(table, block); !errors.Is(err, sink.ErrRefused) || clickhouse.IsRetryable(err) {
			t.Errorf("%s: got %v, want it to wrap sink.ErrRefused", name, err)
		}
	}
	change := func(at int, to byte) []byte {
		block := append([]byte(nil), good...)
		block[at] = to
		return block
	}
	refused("not an ingest table", "rollups_10s", good)
	refused("truncated", pipeline.TableRollups, good[:len(good)-3])
	refused("trailing bytes", pipeline.TableRollups, append(append([]byte(nil), good...), 1, 2, 3))
	refused("no block at all", pipeline.TableRollups, []byte("hello, world"))
	refused("another type", pipeline.TableRollups, change(strings.Index(string(good), "UInt8")+4, '9'))
	// A sketch begins with flag 2 after the type's name; the server's reader must reject it, not trust it.
	sketch := strings.LastIndex(string(good), "Float64)") + len("Float64)")
	refused("sketch of another kind", pipeline.TableRollups, change(sketch, 9))

	if err := insert(pipeline.TableRollups, good); err != nil {
		t.Fatalf("a good block after them: %v", err)
	}
	if got := ask(t, server, "SELECT sum(count) FROM vigie.rollups_10s"); got != "6" {
		t.Errorf("got count %s, want 6", got)
	}
}

func TestProgressNeverGoesBack(t *testing.T) {
	server, client := migrated(t, nil)
	store := clickhouse.NewStore(client)
	send := func(table, token string, rows *pipeline.ProgressRows) {
		t.Helper()
		block, err := clickhouse.Encoder{}.EncodeProgress(nil, rows)
		if err != nil {
			t.Fatal(err)
		}
		if err := client.Insert(t.Context(), table, token, len(rows.Topic), block); err != nil {
			t.Fatal(err)
		}
	}
	check := func(when string) {
		t.Helper()
		for want, of := range map[string][]tenants.ID{
			"[{in 3  5000 9000 2500} {in 3 acme 4000 8000 0}]":                         {"acme"},
			"[{in 3  5000 9000 2500} {in 3 acme 4000 8000 0} {in 3 demo 7000 8000 0}]": {"demo", "other", "acme"},
		} {
			got, err := store.Progress(t.Context(), of)
			if err != nil {
				t.Fatal(err)
			}
			if fmt.Sprint(got) != want {
				t.Errorf("%s: got %v, want %s", when, got, want)
			}
		}
	}
	send(pipeline.TableProgress, "1", &pipeline.ProgressRows{
		Topic: []string{"in", "in", "in"}, Partition: []int32{3, 3, 3}, Tenant: []string{"", "acme", "demo"},
		Time: []int64{5000, 4000, 7000}, Updated: []int64{8000, 8000, 8000},
	})
	// A worker that was slow to die says less, later.
	send(pipeline.TableProgress, "2", &pipeline.ProgressRows{
		Topic: []string{"in", "in"}, Partition: []int32{3, 3}, Tenant: []string{"", "acme"},
		Time: []int64{1000, 1000}, Updated: []int64{9000, 7000},
	})
	// The wider tiers are behind. Of a partition that the others do not know nothing is said.
	for i, time := range []int64{2500, 1500} {
		send(coarse.TableProgress, fmt.Sprint("coarse ", i), &pipeline.ProgressRows{
			Topic: []string{"in", "in", "in"}, Partition: []int32{3, 3, 4}, Tenant: []string{"", "acme", ""},
			Time: []int64{time, 1000, 5000}, Updated: []int64{8000, 8000, 8000},
		})
	}
	check("unmerged")
	ask(t, server, "OPTIMIZE TABLE vigie.progress FINAL")
	ask(t, server, "OPTIMIZE TABLE vigie.coarse_progress FINAL")
	check("merged")
}

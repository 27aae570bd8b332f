package clickhouse_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/coarse"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/verify"
	"github.com/vigie-io/vigie/internal/testkit"
	"github.com/vigie-io/vigie/migrations"
	"github.com/vigie-io/vigie/pkg/series"
	"github.com/vigie-io/vigie/pkg/sketches"
)

// resultBlocks are result records in memory for one ingest table, all stored.
type resultBlocks struct {
	ingest string
	list   [][]byte
}

func (r *resultBlocks) Span(context.Context, time.Time) (verify.Span, error) {
	return verify.Span{From: verify.Offsets{0: 0}, To: verify.Offsets{0: int64(len(r.list))}}, nil
}

func (r *resultBlocks) Settle(context.Context, verify.Offsets) error { return nil }

func (r *resultBlocks) Blocks(_ context.Context, from, to verify.Offsets, fn func(*verify.Block) error) error {
	for offset := from[0]; offset < to[0]; offset++ {
		if err := fn(&verify.Block{Offset: offset, Ingest: r.ingest, Token: r.token(int(offset)), Rows: 1 << 20, Bytes: r.list[offset]}); err != nil {
			return err
		}
	}
	return nil
}

func (r *resultBlocks) token(offset int) string { return fmt.Sprintf("id/0/%d/%s", offset, r.ingest) }

func (r *resultBlocks) insert(t *testing.T, client *clickhouse.Client, offset int) {
	t.Helper()
	if err := client.Insert(t.Context(), r.ingest, r.token(offset), 1<<20, r.list[offset]); err != nil {
		t.Fatal(err)
	}
}

// fills says whether rows go from an ingest table into a table.
func fills(ingest string, table verify.Table) bool {
	return ingest == pipeline.TableRollups || table.Merged() == (ingest == coarse.TableMinutes)
}

// makeBlocks makes blocks whose series and panes overlap, as those of one worker do from epoch to epoch.
func makeBlocks(t *testing.T, ingest string, at int64, n int) *resultBlocks {
	t.Helper()
	blocks, width := &resultBlocks{ingest: ingest}, int64(10)
	if ingest == coarse.TableMinutes {
		width = 60
	}
	random := rand.New(rand.NewPCG(1, uint64(ingest[len("ingest_")]))) // no two tables have the same
	for range n {
		rows := &pipeline.Rollups{}
		add := func(grain pipeline.Grain, service string, id series.ID, start uint32) {
			var sketch sketches.Sketch
			count, sum := 1+random.IntN(5), 0.0
			for range count {
				v := 1 + random.Float64()
				sum += v
				sketch.Add(v)
			}
			rows.Grain, rows.Tenant, rows.Metric = append(rows.Grain, grain), append(rows.Tenant, "acme"), append(rows.Metric, "m")
			rows.Service, rows.Series, rows.Pane = append(rows.Service, service), append(rows.Series, id), append(rows.Pane, start)
			rows.Count, rows.Sum = append(rows.Count, uint64(count)), append(rows.Sum, sum)
			rows.Min, rows.Max = append(rows.Min, 1), append(rows.Max, 2)
			rows.LastTime, rows.Last, rows.LastHist = append(rows.LastTime, 0), append(rows.Last, 0), append(rows.LastHist, "")
			rows.Sketch = sketch.AppendDD(rows.Sketch)
		}
		for i := range 40 {
			start := uint32(at + width*random.Int64N(6))
			add(pipeline.GrainSeries, fmt.Sprint("s", i%3), series.ID{Hi: 1, Lo: uint64(i)}, start)
			if i < 3 {
				add(pipeline.GrainService, fmt.Sprint("s", i), series.ID{}, start)
			}
		}
		block, err := clickhouse.Encoder{}.EncodeRollups(nil, rows)
		if err != nil {
			t.Fatal(err)
		}
		blocks.list = append(blocks.list, block)
	}
	return blocks
}

// audited says what to audit of a table that blocks fill.
func audited(table verify.Table, now time.Time, by ...*resultBlocks) verify.AuditConfig {
	of := verify.Filled{Table: table}
	for _, blocks := range by {
		of.Results = append(of.Results, blocks)
	}
	return verify.AuditConfig{Table: of, Since: now.Add(-2 * time.Hour).Truncate(time.Hour), Now: now, Decode: clickhouse.Decoder{}.DecodeAmounts}
}

func audit(t *testing.T, client *clickhouse.Client, table verify.Table, now time.Time, by ...*resultBlocks) verify.Audited {
	t.Helper()
	found, err := verify.Audit(t.Context(), audited(table, now, by...), clickhouse.NewStore(client))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// A kill between a block's token and its part loses the part, and the token drops the block when it comes again. The
// audit finds it, in whichever table it was and of whichever results, and the repair puts it into that table and into no
// other.
func TestAuditFindsAndRepairsALostPart(t *testing.T) {
	server, client := migrated(t, nil)
	now := time.Now()
	for _, table := range verify.Tables() {
		// no merges, also after a restart: the victim's part stays a part
		ask(t, server, "ALTER TABLE vigie."+table.Name+" MODIFY SETTING max_bytes_to_merge_at_max_space_in_pool = 1, max_bytes_to_merge_at_min_space_in_pool = 1")
	}
	const victim = 3
	type hit struct {
		table  verify.Table
		blocks *resultBlocks
		path   string // of the victim's part
	}
	var hits []hit
	var all []*resultBlocks
	for _, ingest := range []string{pipeline.TablePanes, coarse.TableMinutes, pipeline.TableRollups} {
		blocks := makeBlocks(t, ingest, now.Add(-30*time.Minute).Unix()/60*60, 6)
		all = append(all, blocks)
		for offset := range blocks.list {
			if blocks.insert(t, client, offset); offset != victim {
				continue
			}
			for _, table := range verify.Tables() {
				if fills(ingest, table) {
					hits = append(hits, hit{table, blocks, ask(t, server, "SELECT path FROM system.parts WHERE database = 'vigie' AND active AND table = '"+table.Name+"' ORDER BY min_block_number DESC LIMIT 1")})
				}
			}
		}
	}
	of := func(table verify.Table) []*resultBlocks {
		return slices.DeleteFunc(slices.Clone(all), func(b *resultBlocks) bool { return !fills(b.ingest, table) })
	}
	before := map[string]string{}
	for _, table := range verify.Tables() {
		before[table.Name] = contentOf(t, server, table)
	}
	for _, hit := range hits {
		t.Run(hit.blocks.ingest+" to "+hit.table.Name, func(t *testing.T) {
			server.Kill()
			if !strings.Contains(hit.path, "/store/") && !strings.Contains(hit.path, "/data/") {
				t.Fatalf("path of a part: got %q", hit.path)
			}
			if err := os.RemoveAll(hit.path); err != nil {
				t.Fatal(err)
			}
			server.Restart()
			hit.blocks.insert(t, client, victim) // the sink tries again: dropped as a duplicate
			if contentOf(t, server, hit.table) == before[hit.table.Name] {
				t.Fatal("the lost part came back by itself: the fault was not injected")
			}
			for _, table := range verify.Tables() {
				found := audit(t, client, table, now, of(table)...)
				if table != hit.table {
					if len(found.Missing) > 0 {
						t.Errorf("%s: got %v, want nothing missing", table.Name, found.Missing)
					}
					continue
				}
				if len(found.Missing) != 1 || found.Missing[0].Offset != victim || found.Missing[0].Ingest != hit.blocks.ingest {
					t.Fatalf("got %v missing, want the block at %d for %s", found.Missing, victim, hit.blocks.ingest)
				}
				repaired, err := repairTable(t, client, table, now, of(table)...)
				if err != nil || repaired.Repaired != 1 {
					t.Fatalf("repair: got %+v, %v, want one block put back", repaired, err)
				}
			}
			for _, table := range verify.Tables() {
				if got := contentOf(t, server, table); got != before[table.Name] {
					t.Errorf("%s after the repair: got other rows than before the fault", table.Name)
				}
				if found := audit(t, client, table, now, of(table)...); len(found.Missing) > 0 || found.Surplus > 0 {
					t.Errorf("%s after the repair: got %+v, want nothing missing and nothing too much", table.Name, found)
				}
			}
		})
	}
}

// A repair puts no row back that was replaced: nobody would read it, and what was deleted would be there again.
func TestRepairLeavesWhatWasReplaced(t *testing.T) {
	server, client := migrated(t, nil)
	hour := time.Now().Unix()/3600 - 12
	rows := &pipeline.Rollups{}
	for _, of := range []struct {
		tenant, metric string
		hour           int64
	}{{"acme", "m", hour}, {"acme", "n", hour}, {"acme", "m", hour + 1}, {"acme", "n", hour + 1},
		{"demo", "n", hour}, {"demo", "m", hour + 1}} {
		for _, grain := range []pipeline.Grain{pipeline.GrainSeries, pipeline.GrainService} {
			var sketch sketches.Sketch
			sketch.Add(1)
			rows.Grain, rows.Tenant, rows.Metric = append(rows.Grain, grain), append(rows.Tenant, of.tenant), append(rows.Metric, of.metric)
			rows.Service, rows.Series, rows.Pane = append(rows.Service, ""), append(rows.Series, series.ID{}), append(rows.Pane, uint32(of.hour*3600))
			rows.Count, rows.Sum, rows.Min, rows.Max = append(rows.Count, 1), append(rows.Sum, 1), append(rows.Min, 1), append(rows.Max, 1)
			rows.LastTime, rows.Last, rows.LastHist = append(rows.LastTime, 0), append(rows.Last, 0), append(rows.LastHist, "")
			rows.Sketch = sketch.AppendDD(rows.Sketch)
		}
	}
	block, err := clickhouse.Encoder{}.EncodeRollups(nil, rows)
	if err != nil {
		t.Fatal(err)
	}
	// n of acme in the first hour, and in the second all that is named nowhere.
	ask(t, server, fmt.Sprintf("INSERT INTO vigie.replaced (tenant, metric, from, to, gen, at, job) VALUES ('acme', 'n', %d, %d, 7, now64(6), 'a'), ('acme', '', %d, %d, 8, now64(6), 'b')", hour, hour+1, hour+1, hour+2))
	for _, table := range verify.Tables() {
		err := clickhouse.NewRepairer(client, time.Minute).Repair(t.Context(), table, func(put func(context.Context, *verify.Missing) error) error {
			var failed []error
			for _, start := range []int64{hour * 3600, (hour + 1) * 3600} { // of one day, or two
				group := time.Unix(start, 0).UTC().Format("20060102")
				if table.Monthly() {
					group = group[:6]
				}
				if start == hour*3600 || group != time.Unix(hour*3600, 0).UTC().Format("20060102")[:len(group)] {
					failed = append(failed, put(t.Context(), &verify.Missing{Block: verify.Block{Bytes: block}, Table: table, Group: group}))
				}
			}
			return errors.Join(failed...)
		})
		if err != nil {
			t.Fatal(err)
		}
		got := ask(t, server, fmt.Sprintf("SELECT arrayStringConcat(arraySort(groupArray(concat(tenant, ' ', metric, ' ', toString(intDiv(toUnixTimestamp(ts), 3600) - %d)))), ', ') FROM vigie.%s", hour, table.Name))
		if want := "acme m 0, acme n 1, demo m 1, demo n 0"; got != want {
			t.Errorf("%s: got %s, want %s", table.Name, got, want)
		}
	}
}

func repairTable(t *testing.T, client *clickhouse.Client, table verify.Table, now time.Time, by ...*resultBlocks) (verify.Audited, error) {
	t.Helper()
	return verify.Repair(t.Context(), audited(table, now, by...), clickhouse.NewStore(client), clickhouse.NewRepairer(client, time.Minute))
}

// lossy is a server in whose table the blocks lack some, and what the table held with them.
func lossy(t *testing.T, table verify.Table,
	lost ...int) (server *testkit.Server, client *clickhouse.Client, blocks *resultBlocks, now time.Time, whole string) {
	t.Helper()
	server, client = migrated(t, nil)
	now = time.Now()
	ingest := pipeline.TablePanes
	if table.Merged() {
		ingest = coarse.TableMinutes
	}
	blocks = makeBlocks(t, ingest, now.Add(-30*time.Minute).Unix()/60*60, 6)
	for offset := range blocks.list {
		blocks.insert(t, client, offset)
	}
	whole = contentOf(t, server, table)
	ask(t, server, "TRUNCATE TABLE vigie."+table.Name)
	for offset := range blocks.list {
		if !slices.Contains(lost, offset) {
			if err := client.Insert(t.Context(), ingest, "again/"+blocks.token(offset), 1<<20, blocks.list[offset]); err != nil {
				t.Fatal(err)
			}
		}
	}
	return server, client, blocks, now, whole
}

// Whoever repairs at the same time, or one after the other, with patience or without: a part is put back once.
func TestTwoRepairsPutAPartBackOnce(t *testing.T) {
	table := verify.Tables()[1]
	server, client, blocks, now, whole := lossy(t, table, 1, 4)
	var repairing sync.WaitGroup
	var put atomic.Int64
	for i := range 4 {
		// Without patience each drops the side tables of the others, wherever they are.
		repairer := clickhouse.NewRepairer(client, time.Duration(i%2)*time.Minute)
		repairing.Go(func() {
			for range 200 {
				found, err := verify.Repair(t.Context(), audited(table, now, blocks), clickhouse.NewStore(client), repairer)
				put.Add(int64(found.Repaired))
				if err == nil {
					return
				}
				if !errors.Is(err, clickhouse.ErrRepairing) {
					t.Error(err)
					return
				}
				time.Sleep(rand.N(20 * time.Millisecond))
			}
			t.Error("200 repairs gave way to others, want an end")
		})
	}
	repairing.Wait()
	if got := contentOf(t, server, table); got != whole {
		t.Errorf("after four repairs at once: got other rows than before the loss: %s, want %s", got, whole)
	}
	if put.Load() != 2 {
		t.Errorf("got %d parts put back, want 2", put.Load())
	}
	if left := ask(t, server, "SELECT count() FROM system.tables WHERE database = 'vigie' AND name LIKE 'repair%'"); left != "0" {
		t.Errorf("got %s side tables left, want none", left)
	}
}

// afterwards is a repairer that another comes before.
type afterwards struct {
	verify.Repairer
	first func()
}

func (a afterwards) Repair(ctx context.Context, table verify.Table,
	fn func(put func(context.Context, *verify.Missing) error) error) error {
	a.first()
	return a.Repairer.Repair(ctx, table, fn)
}

// Two find the same, then one repairs, then the other.
func TestRepairAfterAnother(t *testing.T) {
	table := verify.Tables()[4]
	server, client, blocks, now, whole := lossy(t, table, 0)
	second := afterwards{clickhouse.NewRepairer(client, time.Minute), func() {
		if found, err := repairTable(t, client, table, now, blocks); err != nil || found.Repaired != 1 {
			t.Errorf("the first: got %+v, %v, want one block put back", found, err)
		}
	}}
	found, err := verify.Repair(t.Context(), audited(table, now, blocks), clickhouse.NewStore(client), second)
	if err != nil || len(found.Missing) != 0 || found.Repaired != 0 {
		t.Errorf("the second: got %+v, %v, want nothing missing any more", found, err)
	}
	if got := contentOf(t, server, table); got != whole {
		t.Errorf("got %s, want the rows once: %s", got, whole)
	}
}

// A repair that another has overtaken puts nothing there any more.
func TestRepairThatWasOvertaken(t *testing.T) {
	table := verify.Tables()[0]
	server, client, blocks, now, whole := lossy(t, table, 2)
	found := audit(t, client, table, now, blocks)
	if len(found.Missing) != 1 {
		t.Fatalf("got %+v, want one block missing", found)
	}
	slow := clickhouse.NewRepairer(client, 0)
	err := slow.Repair(t.Context(), table, func(put func(context.Context, *verify.Missing) error) error {
		// It stops here for a while: another waits for it, one without patience does not.
		if _, err := repairTable(t, client, table, now, blocks); !errors.Is(err, clickhouse.ErrRepairing) {
			t.Errorf("a repair beside another: got %v, want ErrRepairing", err)
		}
		quick := clickhouse.NewRepairer(client, 0)
		err := quick.Repair(t.Context(), table, func(put func(context.Context, *verify.Missing) error) error {
			return put(t.Context(), &found.Missing[0])
		})
		if err != nil {
			t.Fatal(err)
		}
		return put(t.Context(), &found.Missing[0])
	})
	if !errors.Is(err, clickhouse.ErrRepairing) {
		t.Errorf("the overtaken repair: got %v, want ErrRepairing", err)
	}
	if got := contentOf(t, server, table); got != whole {
		t.Errorf("got %s, want the rows once: %s", got, whole)
	}
}

// contentOf is a digest of a table's merged rows, sketches included.
func contentOf(t *testing.T, server *testkit.Server, table verify.Table) string {
	t.Helper()
	keys := "tenant, metric, service, series_id, ts"
	if table.Service {
		keys = "tenant, metric, service, ts"
	}
	return ask(t, server, "SELECT count(), sum(n), groupBitXor(cityHash64("+keys+", n, round(total, 9), low, high, state)) FROM (SELECT "+keys+
		", sum(r.count) AS n, sum(r.sum) AS total, min(r.min) AS low, max(r.max) AS high, CAST("+migrations.MergeStates("r.sketch")+", 'String') AS state FROM vigie."+
		table.Name+" AS r GROUP BY "+keys+")")
}

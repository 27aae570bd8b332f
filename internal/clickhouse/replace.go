package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vigie-io/vigie/internal/backfill"
	"github.com/vigie-io/vigie/internal/pause"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/windowed"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/migrations"
)

var _ backfill.Replacer = (*Backfill)(nil)

// ErrCluster says that a cluster cannot replace results in one switch.
var ErrCluster = errors.New("a cluster cannot replace results in one switch, " +
	"as its replicas do not see a row at the same time: docs/backfill.md says what to do there")

// CanReplace implements backfill.Replacer.
func (b *Backfill) CanReplace() error {
	if b.client.cfg.Cluster != "" {
		return ErrCluster
	}
	return nil
}

// patience is how long a statement is waited for that may have been planned before the last step.
const patience = time.Minute

// stage is where the blocks of one generation go. The ledger is the one of all jobs.
type stage struct {
	*Backfill
	of     *backfill.Replacement
	prefix string
}

// Stage implements backfill.Replacer.
func (b *Backfill) Stage(ctx context.Context, r *backfill.Replacement) (backfill.Store, error) {
	statements, err := migrations.Stage(migrations.Target{Owner: b.client.cfg.User, ViewOwner: UserViewOwner}, r.Gen)
	if err != nil {
		return nil, err
	}
	for _, statement := range statements {
		if err := b.client.exec(ctx, statement); err != nil {
			return nil, fmt.Errorf("make the tables of generation %016x: %w", r.Gen, err)
		}
	}
	return &stage{b, r, migrations.StagePrefix(r.Gen)}, nil
}

// Insert implements backfill.Store.
func (s *stage) Insert(ctx context.Context, table, token string, rows int, block []byte) error {
	switch table {
	case pipeline.TableRollups:
		table = s.prefix + "ingest"
	case pipeline.TableWindows:
		table = s.prefix + "ingest_windows"
	}
	return s.Backfill.Insert(ctx, table, token, rows, block)
}

// Meets implements backfill.Store: what the generation is to replace is in nobody's way.
func (s *stage) Meets(ctx context.Context, rows *windowed.Rows, of []int) ([]int, error) {
	return s.meets(ctx, rows, of, "NOT "+replacedWindows(s.of))
}

// Mark implements backfill.Store.
func (s *stage) Mark(ctx context.Context) (uint64, error) {
	return s.client.number(ctx, "SELECT toUInt64(max(max_block_number)) FROM system.parts WHERE database = 'vigie'"+
		" AND (startsWith(table, "+literal(s.prefix)+") OR table = 'series')")
}

// Published implements backfill.Replacer.
func (b *Backfill) Published(ctx context.Context, gen uint64) (bool, error) {
	n, err := b.client.number(ctx, fmt.Sprintf("SELECT count() FROM vigie.replaced WHERE gen = %d", gen))
	return n > 0, err
}

// Publish implements backfill.Replacer. Rows of a generation that vigie.replaced does not name are not read, so that
// they are attached table by table, and one insert of one row makes all of them be read. A statement looks once at
// which tables' parts there are and once at what was replaced: those that may have done the first before the last part
// was attached are waited for, or they would see neither the old rows nor the new.
func (b *Backfill) Publish(ctx context.Context, r *backfill.Replacement) error {
	published, err := b.Published(ctx, r.Gen)
	if err != nil || published {
		return err
	}
	for _, table := range migrations.RollupTables() {
		if err := b.attach(ctx, r, table); err != nil {
			return fmt.Errorf("attach generation %016x to %s: %w", r.Gen, table, err)
		}
	}
	// To name a metric takes it out of "all others" and changes nothing, as long as nothing is read instead of it.
	if err := b.record(ctx, &backfill.Replacement{Job: r.Job, Tenant: r.Tenant, Metrics: r.Others}); err != nil {
		return err
	}
	if err := b.settle(ctx); err != nil {
		return err
	}
	return b.record(ctx, r)
}

// record writes rows of vigie.replaced, one a metric, in one insert. The first says which windows there are.
func (b *Backfill) record(ctx context.Context, r *backfill.Replacement) error {
	windows := make([]string, len(r.Windows))
	for i, w := range r.Windows {
		windows[i] = fmt.Sprintf("(%s, %d)", literal(w.Metric), w.Reach)
	}
	err := b.client.exec(ctx, fmt.Sprintf(`INSERT INTO vigie.replaced
(tenant, metric, from, to, gen, at, job, windows) SETTINGS async_insert = 0
SELECT %s, metric, %d, %d, %d, now64(6), %s, if(n = 1, [%s]::Array(Tuple(String, UInt32)), [])
FROM (SELECT [%s] AS metrics) ARRAY JOIN metrics AS metric, arrayEnumerate(metrics) AS n`,
		literal(string(r.Tenant)), r.From, r.To, r.Gen, literal(r.Job), strings.Join(windows, ", "), literals(r.Metrics)))
	if err != nil {
		return fmt.Errorf("put generation %016x in place: %w", r.Gen, err)
	}
	return nil
}

// attach puts the staged parts of a table beside those that are read. A partition is there wholly, or was cut off, or
// came twice, after a crash or an answer that got lost: its events tell which, and whatever is not right is deleted
// first.
func (b *Backfill) attach(ctx context.Context, r *backfill.Replacement, table string) error {
	staged := migrations.StagePrefix(r.Gen) + table
	if err := b.idle(ctx, staged); err != nil {
		return err
	}
	partitions, err := b.client.rows(ctx, "SELECT DISTINCT _partition_id FROM vigie."+staged+" FORMAT TabSeparatedRaw")
	if err != nil {
		return err
	}
	for partition := range strings.Lines(partitions) {
		if err := b.attachPartition(ctx, r, table, literal(strings.TrimSuffix(partition, "\n"))); err != nil {
			return err
		}
	}
	return nil
}

// attachPartition attaches one partition of a table, by its id, until it is there.
func (b *Backfill) attachPartition(ctx context.Context, r *backfill.Replacement, table, id string) error {
	staged := migrations.StagePrefix(r.Gen) + table
	want, err := b.client.number(ctx, "SELECT sum(count) FROM vigie."+staged+" WHERE _partition_id = "+id)
	if err != nil {
		return err
	}
	mine := fmt.Sprintf("gen = %d AND tenant = %s", r.Gen, literal(string(r.Tenant)))
	for attempt := 0; ; attempt++ {
		got, err := b.client.number(ctx, "SELECT sum(count) FROM vigie."+table+" WHERE _partition_id = "+id+" AND "+mine)
		switch {
		case err != nil:
			return err
		case got == want:
			return nil
		case attempt == 3:
			return fmt.Errorf("partition %s has %d events of %d", id, got, want)
		case got > 0:
			if err := b.client.exec(ctx, "ALTER TABLE vigie."+table+" DELETE IN PARTITION ID "+id+
				" WHERE "+mine+" SETTINGS mutations_sync = 2"); err != nil {
				return err
			}
		}
		if err := b.client.exec(ctx,
			"ALTER TABLE vigie."+table+" ATTACH PARTITION ID "+id+" FROM vigie."+staged); err != nil {
			return err
		}
	}
}

// idle waits until no statement of a run before, which was killed, is still at work on the staged table.
func (b *Backfill) idle(ctx context.Context, staged string) error {
	return b.wait(ctx, "SELECT count() FROM system.processes WHERE query_id != queryID()"+
		" AND query LIKE '%ATTACH PARTITION%' AND position(query, "+literal(staged)+") > 0")
}

// settle waits until every statement that reads has begun after this call, or is older than any that should be.
func (b *Backfill) settle(ctx context.Context) error {
	now, err := b.client.number(ctx, "SELECT toUnixTimestamp64Micro(now64(6))::UInt64")
	if err != nil {
		return err
	}
	return b.wait(ctx, fmt.Sprintf(`SELECT count() FROM system.processes
WHERE query_kind = 'Select' AND query_id != queryID() AND elapsed * 1e6 > toUnixTimestamp64Micro(now64(6)) - %d`, now))
}

// wait waits until a query counts nothing, or for as long as patience.
func (b *Backfill) wait(ctx context.Context, query string) error {
	const between = 50 * time.Millisecond
	for waited := time.Duration(0); waited < patience; waited += between {
		n, err := b.client.number(ctx, query)
		if err != nil || n == 0 {
			return err
		}
		if err := pause.For(ctx, between); err != nil {
			return err
		}
	}
	return nil
}

// Finish implements backfill.Replacer. The old rows are deleted by a mutation that the server carries out in its own
// time.
func (b *Backfill) Finish(ctx context.Context, r *backfill.Replacement) error {
	prefix := migrations.StagePrefix(r.Gen)
	left, err := b.client.rows(ctx, "SELECT name FROM system.tables WHERE database = 'vigie'"+
		" AND startsWith(name, "+literal(prefix)+") ORDER BY engine = 'MaterializedView' DESC, name FORMAT TabSeparatedRaw")
	if err != nil || left == "" {
		return err
	}
	if err := b.settle(ctx); err != nil {
		return err
	}
	for _, table := range migrations.RollupTables() {
		if err := b.drop(ctx, table, r, replacedPanes(r)); err != nil {
			return err
		}
	}
	if len(r.Windows) > 0 {
		if err := b.drop(ctx, "windows", r, replacedWindows(r)); err != nil {
			return err
		}
	}
	for name := range strings.Lines(left) {
		if err := b.client.exec(ctx, "DROP TABLE IF EXISTS vigie."+strings.TrimSuffix(name, "\n")+" SYNC"); err != nil {
			return fmt.Errorf("drop the tables of generation %016x: %w", r.Gen, err)
		}
	}
	return nil
}

// drop deletes the rows of a table that the generation hides: of those that where says, the stream's, and those of
// generations that were read before it. Others may be on their way.
func (b *Backfill) drop(ctx context.Context, table string, r *backfill.Replacement, where string) error {
	tenant := literal(string(r.Tenant))
	err := b.client.exec(ctx, fmt.Sprintf(`ALTER TABLE vigie.%s DELETE WHERE tenant = %s AND %s AND gen != %d
AND (gen = 0 OR gen IN (SELECT gen FROM vigie.replaced WHERE tenant = %[2]s
	AND at < (SELECT max(at) FROM vigie.replaced WHERE gen = %[4]d)))`, table, tenant, where, r.Gen))
	if err != nil {
		return fmt.Errorf("delete what was replaced from %s: %w", table, err)
	}
	return nil
}

// replacedPanes is the condition of rows of rollups that are in the place that the generation takes.
func replacedPanes(r *backfill.Replacement) string {
	metric := "metric IN (" + literals(r.Metrics) + ")"
	if slices.Contains(r.Metrics, "") {
		metric = "metric NOT IN (" + literals(r.Others) + ")"
	}
	return fmt.Sprintf("%s AND ts >= toDateTime(%d, 'UTC') AND ts < toDateTime(%d, 'UTC')", metric, r.From*3600, r.To*3600)
}

// replacedWindows is the same of closed windows.
func replacedWindows(r *backfill.Replacement) string {
	or := []string{"0"}
	for _, w := range r.Windows {
		or = append(or, fmt.Sprintf("metric = %s AND end <= %s", literal(w.Metric), seconds((r.To*3600+w.Reach)*1000)))
	}
	return fmt.Sprintf("(start >= %s AND (%s))", seconds(r.From*3600*1000), strings.Join(or, " OR "))
}

// Replaced implements backfill.Store.
func (b *Backfill) Replaced(ctx context.Context) (backfill.Replaced, error) {
	var all backfill.Replaced
	named := map[tenants.ID][]string{}
	const query = "SELECT tenant, metric, from, to, gen, job, windows.metric, windows.reach FROM vigie.replaced" +
		" FORMAT TabSeparated"
	err := b.client.tabbed(ctx, query, 8, func(fields []string) error {
		r := backfill.Replacement{Tenant: tenants.ID(fields[0]), Metrics: []string{fields[1]}, Job: fields[5]}
		if _, err := fmt.Sscan(strings.Join(fields[2:5], " "), &r.From, &r.To, &r.Gen); err != nil {
			return err
		}
		if fields[1] != "" {
			named[r.Tenant] = append(named[r.Tenant], fields[1])
		}
		var err error
		if r.Gen != 0 {
			r.Windows, err = parseWindows(fields[6], fields[7])
			all = append(all, r)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read what was replaced: %w", err)
	}
	for i := range all {
		if all[i].Metrics[0] == "" {
			all[i].Others = named[all[i].Tenant]
		}
	}
	return all, nil
}

// parseWindows reads two arrays; names of metrics are letters, digits, '_' and ':'.
func parseWindows(metrics, reaches string) (all []backfill.ReplacedWindows, err error) {
	for i, metric := range strings.FieldsFunc(metrics, notOfMetric) {
		w := backfill.ReplacedWindows{Metric: metric}
		w.Reach, err = strconv.ParseInt(strings.FieldsFunc(reaches, notOfMetric)[i], 10, 64)
		all = append(all, w)
	}
	return all, err
}

func notOfMetric(r rune) bool { return strings.ContainsRune("[]',", r) }

// number is the answer to a query for one.
func (c *Client) number(ctx context.Context, query string) (uint64, error) {
	answer, err := c.rows(ctx, query)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(strings.TrimSpace(answer), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("ask %q: %w", query, err)
	}
	return n, nil
}

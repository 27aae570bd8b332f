package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/vigie-io/vigie/internal/pipeline/verify"
	"github.com/vigie-io/vigie/migrations"
)

// ErrRepairing says that another repair of the table is under way, and that this one has put nothing there since.
var ErrRepairing = errors.New("another repair is under way")

// RepairPatience is how long a repair is left alone by others before it is taken for one that was cut off.
const RepairPatience = 10 * time.Minute

// Repairer puts missing parts of blocks into tables. Its rows go through a side table of the same form that nothing
// reads, and whose partition is attached: atomic, past the token, and seen by no materialized view. Replicated tables
// have nothing to repair.
//
// The side table is also what keeps repairs apart. Each has one of its own, under a name of its own, and begins with
// dropping those of all others. A drop returns when no statement uses the table any more: an attachment from it has
// then succeeded, so that the audit that follows sees its rows, or never will. Which of two repairs goes on is a
// question of patience and of names; that no part is put back twice does not depend on it, nor on any clock.
type Repairer struct {
	client   *Client
	patience time.Duration
}

var _ verify.Repairer = (*Repairer)(nil)

// NewRepairer repairs through client and lets repairs alone that began less than patience ago.
func NewRepairer(client *Client, patience time.Duration) *Repairer {
	return &Repairer{client, patience}
}

// Resend implements verify.Repairer.
func (r *Repairer) Resend(ctx context.Context, missing *verify.Missing) error {
	topic, _, _ := strings.Cut(missing.Token, "/")
	remembered, err := NewLedger(r.client).remembers(ctx, topic, missing.Partition, missing.Offset)
	if err != nil || !remembered {
		return err
	}
	return r.client.Insert(ctx, missing.Ingest, missing.Token, missing.Rows, missing.Bytes)
}

// Repair implements verify.Repairer. Its error, and that of put, wraps ErrRepairing when another repair goes on
// instead.
func (r *Repairer) Repair(ctx context.Context, table verify.Table,
	fn func(put func(context.Context, *verify.Missing) error) error) error {
	if r.client.cfg.Cluster != "" {
		return fmt.Errorf("repair %s: %w", table.Name,
			errors.New("replicated tables write token and part at once: what is missing there was lost otherwise"))
	}
	p := &repair{Repairer: r, table: table,
		side: fmt.Sprintf("repair_%s_%016x%08x", table.Name, time.Now().UnixNano(), rand.Uint32())}
	err := p.begin(ctx)
	if err == nil {
		err = fn(p.put)
	}
	if dropped := p.drop(context.WithoutCancel(ctx), p.side); err == nil {
		err = dropped
	}
	if err != nil {
		return fmt.Errorf("repair %s.%s: %w", Database, table.Name, err)
	}
	return nil
}

// repair is one call of Repairer.Repair.
type repair struct {
	*Repairer
	table verify.Table
	side  string // name of its side table; those of earlier repairs are less, clocks permitting
	used  bool   // it may hold rows
}

// begin creates the side table and drops those of others. It gives way to a repair that is under way, and of two that
// begin at once to the earlier.
func (p *repair) begin(ctx context.Context) error {
	if err := p.clear(ctx, false); err != nil {
		return err
	}
	if err := p.client.exec(ctx, "CREATE TABLE "+Database+"."+p.side+" AS "+Database+"."+p.table.Name); err != nil {
		return err
	}
	return p.clear(ctx, true)
}

func (p *repair) clear(ctx context.Context, begun bool) error {
	answer, err := p.client.rows(ctx, fmt.Sprintf(`SELECT name, now() - metadata_modification_time < %d FROM system.tables
WHERE database = '%s' AND (name = 'repair_%[3]s' OR startsWith(name, 'repair_%[3]s_')) AND name != '%[4]s'
ORDER BY name FORMAT TabSeparated`,
		int64(p.patience.Seconds()), Database, p.table.Name, p.side))
	if err != nil {
		return err
	}
	for line := range strings.Lines(answer) {
		name, young, _ := strings.Cut(strings.TrimSpace(line), "\t")
		if young == "1" && (!begun || name < p.side) {
			return fmt.Errorf("%w: table %s.%s is less than %s old", ErrRepairing, Database, name, p.patience)
		}
		if err := p.drop(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

func (p *repair) drop(ctx context.Context, side string) error {
	return p.client.exec(ctx, "DROP TABLE IF EXISTS "+Database+"."+side+" SYNC")
}

func (p *repair) put(ctx context.Context, missing *verify.Missing) error {
	err := p.attach(ctx, missing)
	var exception *Error
	if errors.As(err, &exception) && exception.Code == codeUnknownTable {
		return fmt.Errorf("%w: it has dropped this one's side table: %w", ErrRepairing, err)
	}
	return err
}

func (p *repair) attach(ctx context.Context, missing *verify.Missing) error {
	side := Database + "." + p.side
	if p.used {
		if err := p.client.exec(ctx, "TRUNCATE TABLE "+side+" SYNC"); err != nil {
			return err
		}
	}
	p.used = true
	if err := p.client.fill(ctx, side, missing); err != nil {
		return err
	}
	return p.client.exec(ctx, "ALTER TABLE "+Database+"."+p.table.Name+" ATTACH PARTITION ID '"+missing.Group+"' FROM "+side)
}

// fill inserts the block's rows that belong into one partition of the table, but for those that were replaced: nobody
// would read them, and what was deleted would be there again.
func (c *Client) fill(ctx context.Context, side string, missing *verify.Missing) error {
	params := c.settings(repairStatement(side, missing))
	for name, value := range insertSettings {
		params.Set(name, value)
	}
	params.Set("deduplicate_insert", "disable")
	_, err := c.fetch(ctx,
		&call{as: c.service, method: http.MethodPost, params: params, header: http.Header{}, body: missing.Bytes})
	return err
}

func repairStatement(side string, missing *verify.Missing) string {
	id, last, grain := "series_id, ", "last, ", "0"
	if missing.Table.Service {
		id, last, grain = "", "", "1"
	}
	day := "toYYYYMMDD"
	if missing.Table.Monthly() {
		day = "toYYYYMM"
	}
	columns := "tenant, metric, service, " + id + "ts, count, sum, min, max, " + last + "sketch"
	selected := strings.Replace(columns, "ts,",
		fmt.Sprintf("toDateTime(toStartOfInterval(r.ts, INTERVAL %d SECOND), 'UTC') AS ts,", missing.Table.Width), 1)
	return "INSERT INTO " + side + " (" + columns + ") SELECT " + selected +
		" FROM input('grain UInt8, tenant LowCardinality(String), metric LowCardinality(String)," +
		" service LowCardinality(String), series_id UInt128, ts DateTime(\\'UTC\\')," +
		" count UInt64, sum Float64, min Float64, max Float64," +
		" last Tuple(Int64, Float64, String), sketch " + migrations.SketchType() + "') AS r WHERE r.grain = " + grain +
		" AND toString(" + day + "(r.ts)) = '" + missing.Group + "' AND NOT " + replaced("r") + " FORMAT Native"
}

// replaced is the SQL condition that a row of the stream is of a metric and hour that others were put in the place of,
// ever.
func replaced(row string) string {
	named := "(" + row + ".tenant::String, " + row + ".metric::String)"
	return "(" + row + ".tenant::String, if(" + named +
		" IN (SELECT tenant::String, metric::String FROM vigie.replaced WHERE metric != ''), " + row + ".metric::String, ''), " +
		"intDiv(toUnixTimestamp(" + row + ".ts), 3600)::UInt32) IN " +
		"(SELECT tenant::String, metric::String, arrayJoin(range(from, to))::UInt32 FROM vigie.replaced WHERE gen != 0)"
}

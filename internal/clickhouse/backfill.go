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
	"github.com/vigie-io/vigie/internal/sink"
)

// Backfill is the result tables and the ledger vigie.backfill, for jobs. It is safe for concurrent use.
type Backfill struct {
	client *Client
}

var (
	_ backfill.Store   = (*Backfill)(nil)
	_ backfill.Lister  = (*Backfill)(nil)
	_ backfill.Encoder = Encoder{}
)

// NewBackfill writes through client.
func NewBackfill(client *Client) *Backfill { return &Backfill{client} }

// Insert implements backfill.Store.
func (b *Backfill) Insert(ctx context.Context, table, token string, rows int, block []byte) error {
	return refused(b.client.insert(ctx, table, token, rows, block, behind))
}

func refused(err error) error {
	if errors.Is(err, sink.ErrRefused) {
		return fmt.Errorf("%w: %w", backfill.ErrRefused, err)
	}
	return err
}

// Entries implements backfill.Store.
func (b *Backfill) Entries(ctx context.Context, job, file string) ([]backfill.Entry, error) {
	var entries []backfill.Entry
	query := `SELECT chunk, b.state, plan, toUnixTimestamp64Milli(started), mark, rows, events, rejected
FROM vigie.backfill AS b FINAL WHERE job = ` + literal(job) + ` AND file = ` + literal(file) + ` FORMAT TabSeparatedRaw`
	err := b.client.tabbed(ctx, query, 8, func(fields []string) error {
		e, err := parseEntry(fields)
		entries = append(entries, e)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the ledger of job %s: %w", job, err)
	}
	return entries, nil
}

func parseEntry(fields []string) (e backfill.Entry, err error) {
	const plan = 2
	var n [8]int64
	for i, field := range fields {
		if i == plan {
			continue
		}
		if n[i], err = strconv.ParseInt(field, 10, 64); err != nil {
			return e, err
		}
	}
	return backfill.Entry{
		Chunk: n[0], State: backfill.State(n[1]), Plan: fields[plan], Started: time.UnixMilli(n[3]),
		Mark: uint64(n[4]), Rows: uint64(n[5]), Events: uint64(n[6]), Rejects: uint64(n[7]),
	}, nil
}

// Files implements backfill.Lister.
func (b *Backfill) Files(ctx context.Context, job string) (map[string]string, error) {
	answer, err := b.client.rows(ctx, "SELECT file, any(name) FROM vigie.backfill WHERE chunk = -1 AND job = "+literal(job)+
		" GROUP BY file FORMAT TabSeparated")
	if err != nil {
		return nil, fmt.Errorf("read the ledger of job %s: %w", job, err)
	}
	files := map[string]string{}
	for line := range strings.Lines(answer) {
		hash, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		files[hash] = name
	}
	return files, nil
}

// Record implements backfill.Store. A row that is written twice replaces itself.
func (b *Backfill) Record(ctx context.Context, job, file string, e *backfill.Entry) error {
	err := b.client.exec(ctx, fmt.Sprintf(`INSERT INTO vigie.backfill
(job, file, chunk, state, name, plan, started, mark, rows, events, rejected)
SETTINGS async_insert = 0 SELECT %s, %s, %d, %d, %s, %s, fromUnixTimestamp64Milli(%d, 'UTC'), %d, %d, %d, %d`,
		literal(job), literal(file), e.Chunk, e.State, literal(e.Name), literal(e.Plan), e.Started.UnixMilli(), e.Mark,
		e.Rows, e.Events, e.Rejects))
	if err != nil {
		return fmt.Errorf("write the ledger of job %s: %w", job, err)
	}
	return nil
}

// Mark implements backfill.Store: a table of a single node numbers its parts one after another; replicated ones log
// them.
func (b *Backfill) Mark(ctx context.Context) (uint64, error) {
	query := "SELECT toUInt64(max(max_block_number)) FROM system.parts WHERE database = 'vigie'" +
		" AND (table LIKE 'rollups%' OR table LIKE 'services%' OR table = 'series')"
	if b.client.cfg.Cluster != "" {
		query = "SELECT max(log_max_index) FROM system.replicas WHERE database = 'vigie'"
	}
	answer, err := b.client.rows(ctx, query)
	if err != nil {
		return 0, fmt.Errorf("read how many parts there are: %w", err)
	}
	mark, err := strconv.ParseUint(strings.TrimSpace(answer), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read how many parts there are: %w", err)
	}
	return mark, nil
}

// Note implements backfill.Store. What is noted twice is there once.
func (b *Backfill) Note(ctx context.Context, job string, hours []backfill.Hours) error {
	for some := range slices.Chunk(hours, 10_000) {
		rows := make([]string, len(some))
		for i, h := range some {
			rows[i] = fmt.Sprintf("(%s,%s,%d,%d,%s)", literal(h.Tenant), literal(h.Metric), h.From, h.To, literal(job))
		}
		err := b.client.exec(ctx, "INSERT INTO vigie.backfilled (tenant, metric, from, to, job)"+
			" SETTINGS async_insert = 0 VALUES "+strings.Join(rows, ","))
		if err != nil {
			return fmt.Errorf("note the hours that job %s adds to: %w", job, err)
		}
	}
	return nil
}

// Added says which panes plain backfills, but for one job, have added to: those of a metric that begin at start, Unix
// seconds.
func (b *Backfill) Added(ctx context.Context, but string) (func(tenant, metric string, start int64) bool, error) {
	type of struct{ tenant, metric string }
	added := map[of][]backfill.Hours{}
	query := "SELECT tenant, metric, from, to FROM vigie.backfilled WHERE job != " + literal(but) +
		" GROUP BY ALL FORMAT TabSeparated"
	err := b.client.tabbed(ctx, query, 4, func(fields []string) error {
		var h backfill.Hours
		_, err := fmt.Sscan(fields[2]+" "+fields[3], &h.From, &h.To)
		at := of{fields[0], fields[1]}
		added[at] = append(added[at], h)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read what was backfilled: %w", err)
	}
	return func(tenant, metric string, start int64) bool {
		return slices.ContainsFunc(added[of{tenant, metric}],
			func(h backfill.Hours) bool { return start/3600 >= h.From && start/3600 < h.To })
	}, nil
}

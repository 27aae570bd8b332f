package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vigie-io/vigie/internal/pipeline/verify"
)

// A token is taken to be remembered for half of what tables keep (migrations, {{dedup}}): the other half is for what is
// added meanwhile.
const (
	rememberedParts = 50_000
	rememberedTime  = 6 * 24 * time.Hour // of replicated tables
)

// ErrForgotten says that results are to be inserted again from so far back that tables may not know their tokens any
// more.
var ErrForgotten = errors.New("tables may have forgotten it")

// Ledger is the table vigie.stored. It is safe for concurrent use.
type Ledger struct {
	client *Client
	parts  uint64 // a token is remembered while a table has had fewer since
}

var _ verify.Ledger = (*Ledger)(nil)

// NewLedger reads and writes through client.
func NewLedger(client *Client) *Ledger { return &Ledger{client, rememberedParts} }

// Resume says whether a sink may insert the records of a results partition from next on: nil when they come behind what
// was inserted, or are sure to be dropped where they were. Its error wraps ErrForgotten when the group was set back too
// far. What comes first in a partition is noted, so that a restart soon after finds something before it, and so that
// what is not noted is virgin: no sink has inserted of it.
func (l *Ledger) Resume(ctx context.Context, topic string, partition int32, next int64) (virgin bool, err error) {
	known, err := l.Known(ctx, topic, "")
	if err != nil {
		return false, err
	}
	stored, noted := known[partition]
	switch {
	case !noted:
		if err := l.Note(ctx, topic, []string{""}, verify.Offsets{partition: next}); err != nil {
			return false, err
		}
		return l.first(ctx, topic, partition)
	case next >= stored:
		return false, nil
	}
	remembered, err := l.remembers(ctx, topic, partition, next)
	if err != nil || remembered {
		return false, err
	}
	return false, fmt.Errorf("insert results of partition %d from offset %d: "+
		"what is before %d was inserted, so long ago that it could be counted twice: %w: the sink's group was set back: "+
		"stop every stream, wait for session_timeout and set the group's offset of this partition to %d",
		partition, next, stored, ErrForgotten, stored)
}

// first says whether the partition has been noted once only: another sink may have noted it at the same moment, and
// inserted.
func (l *Ledger) first(ctx context.Context, topic string, partition int32) (bool, error) {
	answer, err := l.client.rows(ctx,
		fmt.Sprintf("SELECT count() FROM vigie.stored WHERE topic = %s AND partition = %d AND about = '' FORMAT TabSeparated",
			literal(topic), partition))
	if err != nil {
		return false, fmt.Errorf("read what is known to be stored: %w", err)
	}
	return strings.TrimSpace(answer) == "1", nil
}

// Note implements verify.Ledger.
func (l *Ledger) Note(ctx context.Context, topic string, about []string, next verify.Offsets) error {
	if len(about) == 0 || len(next) == 0 {
		return nil
	}
	var offsets, names []string
	for _, partition := range slices.Sorted(maps.Keys(next)) {
		offsets = append(offsets, fmt.Sprintf("(%d, %d)", partition, next[partition]))
	}
	for _, name := range about {
		names = append(names, literal(name))
	}
	err := l.client.exec(ctx, `INSERT INTO vigie.stored (topic, partition, about, next, marks, at) SETTINGS async_insert = 0
WITH (`+l.marks()+`) AS marks
SELECT `+literal(topic)+`, o.1, name, o.2, if(name = '', marks, map()), now64(3)
FROM (SELECT arrayJoin([`+strings.Join(offsets, ", ")+`]) AS o, arrayJoin([`+strings.Join(names, ", ")+`]) AS name)`)
	if err != nil {
		return fmt.Errorf("note what is stored: %w", err)
	}
	return nil
}

// marks is a query for how many parts each table has ever had, about: a table numbers them one after another, and
// replicated ones log them.
func (l *Ledger) marks() string {
	from := "SELECT table, toUInt64(max(max_block_number)) AS n FROM system.parts WHERE database = 'vigie' GROUP BY table"
	if l.client.cfg.Cluster != "" {
		from = "SELECT table, toUInt64(max(log_max_index)) AS n FROM system.replicas WHERE database = 'vigie' GROUP BY table"
	}
	return "SELECT CAST(mapFromArrays(groupArray(table), groupArray(n)), 'Map(LowCardinality(String), UInt64)')" +
		" FROM (" + from + ")"
}

// Known implements verify.Ledger.
func (l *Ledger) Known(ctx context.Context, topic, about string) (verify.Offsets, error) {
	answer, err := l.client.rows(ctx, "SELECT partition, argMax(next, at) FROM vigie.stored WHERE topic = "+literal(topic)+
		" AND about = "+literal(about)+" GROUP BY partition FORMAT TabSeparated")
	out := verify.Offsets{}
	for line := range strings.Lines(answer) {
		var partition int32
		var next int64
		if err == nil {
			_, err = fmt.Sscan(line, &partition, &next)
		}
		out[partition] = next
	}
	if err != nil {
		return nil, fmt.Errorf("read what is known to be stored: %w", err)
	}
	return out, nil
}

// remembers says whether every table is sure to drop a record's block if it had it. What was not noted is not known.
func (l *Ledger) remembers(ctx context.Context, topic string, partition int32, offset int64) (bool, error) {
	of := fmt.Sprintf("FROM vigie.stored WHERE topic = %s AND partition = %d AND about = ''", literal(topic), partition)
	// It was inserted after the last note before it, of those that were written before the first note behind it.
	answer, err := l.client.rows(ctx, fmt.Sprintf(`WITH (%s) AS now_marks, (SELECT minOrNull(at) %s AND next > %[3]d) AS behind
SELECT toUInt64(now() - toDateTime(at)),
	arrayMax(arrayMap((t, n) -> n - least(n, marks[t]), mapKeys(now_marks), mapValues(now_marks)))
%[2]s AND next <= %[3]d AND (behind IS NULL OR at < behind) ORDER BY at DESC LIMIT 1 FORMAT TabSeparated`, l.marks(), of, offset))
	if err != nil {
		return false, fmt.Errorf("read what tables remember: %w", err)
	}
	age, parts, noted := strings.Cut(strings.TrimSpace(answer), "\t")
	if !noted {
		return false, nil
	}
	seconds, err := strconv.ParseUint(age, 10, 64)
	if err != nil {
		return false, fmt.Errorf("read what tables remember: %w", err)
	}
	added, err := strconv.ParseUint(parts, 10, 64)
	if err != nil {
		return false, fmt.Errorf("read what tables remember: %w", err)
	}
	return added < l.parts && (l.client.cfg.Cluster == "" || seconds < uint64(rememberedTime.Seconds())), nil
}

package simulation

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/coarse"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/sink"
)

var _ sink.Inserter = (*Server)(nil)

// dedupWindow is how many parts a table remembers (migrations, {{dedup}}).
const dedupWindow = 100_000

// Server does with a block what ClickHouse does: it goes through the views into every table behind the ingest table;
// each table makes one part of each of its partitions, and drops a part whose token it has seen for that partition,
// whatever is in it. An insert that fails in the middle leaves the parts that were written.
type Server struct {
	under sync.WaitGroup // inserts under way

	mu       sync.Mutex
	rollups  []*rollupTable
	series   map[seriesKey]seriesRow
	progress map[progressKey]int64 // Unix milliseconds
	coarse   map[progressKey]int64 // the same of the wider tiers
	merged   mergedUpTo
	earlier  bool // the schema is the one before migrations/0030_coarse.sql
	windows  map[windowKey]windowRow
	others   parts // of the tables that are not of rollups
	lost     map[pipeline.TenantReason]uint64
	faults   []*insertFault
	readOnly time.Time
	away     time.Time             // until when it does not answer
	stalled  map[stalled]time.Time // until when nothing is stored
	refused  map[string]bool       // tokens of blocks that were refused
	claims   [3]claims             // by tier
	hits     *Hits                 // of sink faults; may be nil

	dropped int // parts that were duplicates
}

type (
	seriesKey   struct{ tenant, metric, id string }
	seriesRow   struct{ seen uint32 }
	progressKey struct {
		topic     string
		partition int32
		tenant    string
	}
	// stalled is a partition of the results, or of what is merged of them.
	stalled struct {
		coarse    bool
		partition int32
	}
)

// NewServer returns an empty one.
func NewServer() *Server {
	s := &Server{
		series: map[seriesKey]seriesRow{}, progress: map[progressKey]int64{}, coarse: map[progressKey]int64{},
		merged: mergedUpTo{}, windows: map[windowKey]windowRow{},
		others: newParts(), lost: map[pipeline.TenantReason]uint64{}, stalled: map[stalled]time.Time{},
		refused: map[string]bool{},
	}
	for i := range s.claims {
		s.claims[i] = newClaims()
	}
	for _, grain := range []pipeline.Grain{pipeline.GrainSeries, pipeline.GrainService} {
		for _, t := range tiers {
			name := "rollups_" + t.name
			if grain == pipeline.GrainService {
				name = "services_" + t.name
			}
			s.rollups = append(s.rollups, &rollupTable{name: name, grain: grain, tier: t, parts: newParts(), rows: Contents{}})
		}
	}
	return s
}

// parts are the tokens of the parts that one table has.
type parts struct {
	known map[string]bool
	order []string
}

func newParts() parts { return parts{known: map[string]bool{}} }

// add reports whether the part is new, and remembers it.
func (p *parts) add(partition, token string) bool {
	id := partition + "_" + token
	if p.known[id] {
		return false
	}
	p.known[id] = true
	if p.order = append(p.order, id); len(p.order) > dedupWindow {
		delete(p.known, p.order[0])
		p.order = p.order[1:]
	}
	return true
}

// Insert implements sink.Inserter. An insert under way is not given up when ctx ends: as in ClickHouse it may be stored
// after its client has gone.
func (s *Server) Insert(ctx context.Context, table, token string, rows int, block []byte) error {
	fault := s.fault(table)
	block = slices.Clone(block) // it is the caller's again when this returns
	done := make(chan error, 1)
	s.under.Go(func() { done <- s.insert(fault, table, token, rows, block) })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("insert into %s: %w", table, ctx.Err())
	}
}

func (s *Server) insert(fault insertFault, table, token string, rows int, block []byte) error {
	time.Sleep(fault.delay)
	if fault.kind == faultRefuse {
		s.putAside(table, token, block)
	}
	if fault.kind == faultBefore || fault.kind == faultRefuse {
		return fault.err
	}
	limit := -1
	if fault.kind == faultDuring {
		limit = fault.parts
	}
	if err := s.apply(table, token, rows, block, limit); err != nil {
		return err
	}
	if fault.kind == faultHang {
		time.Sleep(fault.silence)
	}
	return fault.err
}

// apply stores a block, or its first parts up to limit.
func (s *Server) apply(table, token string, rows int, block []byte, limit int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.outage(table, token); err != nil {
		return err
	}
	var decoder clickhouse.Decoder
	switch table {
	case pipeline.TableRollups, pipeline.TablePanes, coarse.TableMinutes:
		b, err := decoder.DecodeRollups(block)
		if err != nil || len(b.Grain) != rows {
			return corrupted(err)
		}
		s.applyRollups(table, token, b, limit)
	case pipeline.TableSeries:
		b, err := decoder.DecodeSeries(block)
		if err != nil || len(b.ID) != rows {
			return corrupted(err)
		}
		if limit != 0 && s.put(&s.others, "series", token) {
			s.applySeries(b)
		}
	case pipeline.TableProgress, coarse.TableProgress:
		b, err := decoder.DecodeProgress(block)
		if err != nil || len(b.Topic) != rows {
			return corrupted(err)
		}
		if limit != 0 && s.put(&s.others, table, token) {
			s.applyProgress(table, b)
		}
	case coarse.TableMerged:
		at, err := decoder.DecodeMerged(block)
		if err != nil || rows != 1 {
			return corrupted(err)
		}
		if limit != 0 && s.put(&s.others, table, token) {
			s.merged.raise(at)
		}
	case pipeline.TableWindows:
		b, err := decoder.DecodeWindows(block)
		if err != nil || len(b.Tenant) != rows {
			return corrupted(err)
		}
		return s.applyWindows(token, b, limit)
	case pipeline.TableLimits:
		b, err := decoder.DecodeLimits(block)
		if err != nil || len(b.Tenant) != rows {
			return corrupted(err)
		}
		if limit != 0 && s.put(&s.others, "limits", token) {
			s.applyLimits(b)
		}
	case pipeline.TableLetters:
		if limit != 0 {
			s.put(&s.others, table, token) // nothing reads them
		}
	default:
		return &clickhouse.Error{Status: 404, Code: codeUnknownTable, Message: "no table " + table}
	}
	return nil
}

// outage is why the server takes no block of a token now, or nil.
func (s *Server) outage(table, token string) error {
	if time.Now().Before(s.away) {
		s.hits.add("sink away", 1)
		return errRefused
	}
	if time.Now().Before(s.readOnly) {
		s.hits.add("sink readonly", 1)
		return &clickhouse.Error{Status: 500, Code: codeReadOnly, Message: "Table is in readonly mode"}
	}
	of := stalled{slices.Contains(coarseTables, table), lane(token)}
	if time.Now().Before(s.stalled[of]) {
		s.hits.add(stallKind(of.coarse), 1)
		return errRefused
	}
	return nil
}

// Exception codes of ClickHouse.
const (
	codeUnknownTable = 60
	codeCorrupted    = 117
	codeReadOnly     = 242
	codeKeeper       = 999
)

var errRefused = errors.New("dial tcp: connection refused")

func corrupted(err error) error {
	return &clickhouse.Error{Status: 400, Code: codeCorrupted, Message: fmt.Sprintf("block does not decode to its rows: %v", err)}
}

func (s *Server) put(p *parts, partition, token string) bool {
	fresh := p.add(partition, token)
	if !fresh {
		s.dropped++
	}
	return fresh
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func (s *Server) applySeries(b *pipeline.SeriesRows) {
	for i := range b.ID {
		key := seriesKey{b.Tenant[i], b.Metric[i], fmt.Sprint(b.ID[i])}
		s.series[key] = seriesRow{seen: max(s.series[key].seen, b.LastSeen[i])}
	}
}

// count is what is stored of a row of a series.
func (s *Server) count(key Key) uint64 {
	for _, t := range s.rollups[:len(tiers)] {
		if cell := t.rows[key]; cell != nil {
			return cell.Count
		}
	}
	return 0
}

// putAside counts the events of a block that the sink will park, for claims.
func (s *Server) putAside(table, token string, block []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	filled := filledBy(table)
	if len(filled) == 0 || s.refused[token] {
		return
	}
	b, err := clickhouse.Decoder{}.DecodeRollups(block)
	if err != nil {
		return
	}
	s.refused[token] = true
	for _, n := range filled {
		for _, rows := range s.rollups[n].merged(rollupRows(b)) {
			for key, cell := range rows {
				s.claims[n].aside[key] += cell.Count
			}
		}
	}
}

// lane is the results partition that a token names.
func lane(token string) int32 {
	parts := strings.Split(token, "/")
	if len(parts) != 4 {
		return -1
	}
	n, err := strconv.ParseInt(parts[1], 10, 32)
	if err != nil {
		return -1
	}
	return int32(n)
}

// Contents copies what is stored. Cells may be changed by the caller.
func (s *Server) Contents() Contents {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := Contents{}
	for _, t := range s.rollups {
		for key, cell := range t.rows {
			out.at(key).merge(cell)
		}
	}
	s.closedWindows(out)
	return out
}

// deduplicated is how many parts were dropped because their token was known.
func (s *Server) deduplicated() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dropped
}

// unannounced is a series with rows and no announcement, "" when there is none.
func (s *Server) unannounced() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.rollups[0].rows {
		if _, ok := s.series[seriesKey{key.Tenant, key.Metric, fmt.Sprint(key.Series)}]; !ok {
			return key.String()
		}
	}
	return ""
}

// clone is a server with the same contents and tokens, and no faults.
func (s *Server) clone() *Server {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := NewServer()
	for i, t := range s.rollups {
		maps.Copy(out.rollups[i].parts.known, t.parts.known)
		for key, cell := range t.rows {
			out.rollups[i].rows.at(key).merge(cell)
		}
	}
	maps.Copy(out.windows, s.windows)
	maps.Copy(out.lost, s.lost)
	maps.Copy(out.others.known, s.others.known)
	return out
}

// repair inserts a parked block.
func (s *Server) repair(token string, r *kgo.Record) error {
	var table string
	rows := 0
	for _, h := range r.Headers {
		switch h.Key {
		case sink.HeaderTable:
			table = string(h.Value)
		case sink.HeaderRows:
			rows, _ = strconv.Atoi(string(h.Value))
		}
	}
	if err := s.apply(table, token, rows, r.Value, -1); err != nil {
		return fmt.Errorf("repair %s: %w", token, err)
	}
	return nil
}

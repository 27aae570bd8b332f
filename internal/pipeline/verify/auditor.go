package verify

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/vigie-io/vigie/internal/pipeline"
)

const (
	auditTick  = time.Second
	auditNote  = time.Minute // between two notes of what is stored
	auditRetry = 30 * time.Second
	auditRest  = time.Hour // the longest wait after audits without a result
	// auditMost is how much the auditor puts back by itself: a crash loses a block of each insert under way at most.
	auditMost = 64
)

// Stored is how far a results partition of this process is stored.
type Stored struct {
	Topic     string // id, as in tokens
	Partition int32
	Next      int64 // every record before it is
}

// Ledger remembers, beside the tables, how far they hold what there is.
type Ledger interface {
	// Note adds how far each partition is inserted, for about "", or is known to be in a table, for the table's name.
	Note(ctx context.Context, topic string, about []string, next Offsets) error
	// Known is what was noted last, by partition.
	Known(ctx context.Context, topic, about string) (Offsets, error)
}

// AuditorConfig says how to audit beside a running sink.
type AuditorConfig struct {
	Kept []KeptTable // to be audited, too
	// Tables are to be audited; what is inserted is noted also when there are none. The first of a table's Results are
	// what the sink stores. They should settle quickly or give up: the auditor comes again.
	Tables []Filled
	Repair bool          // else what is missing is only told
	Range  time.Duration // older panes are not looked at
	// MaxFuture is that which the results are made with.
	MaxFuture time.Duration
	Decode    func(block []byte) (*pipeline.Rollups, error)
	// Replaced reads what AuditConfig.Replaced is to be. Nil: nothing ever is.
	Replaced func(ctx context.Context) (func(tenant, metric string, start int64) bool, error)
}

// Auditor looks for blocks that a crash of the database has lost, beside a running sink and without holding it up. A
// block can only be lost when its insert ended with an error or with this process, or one before it: so there is doubt
// when the sink begins with a partition that somebody has inserted of before, and when an insert did not succeed:
// whoever knows of it calls Doubt. Once the pane that was open then is over, each table is audited from where it was
// last known to be right. While there is no doubt, that is noted every minute, so that an audit has little to read.
//
// Several processes may audit the same tables at a time. It knows nothing of blocks that disks lose later.
type Auditor struct {
	cfg      AuditorConfig
	store    Store
	repairer Repairer
	kept     KeptStore
	ledger   Ledger
	metrics  *AuditMetrics
	log      *slog.Logger

	mu     sync.Mutex
	tables []*audited
}

// audited is a table.
type audited struct {
	Filled
	kept  *KeptTable // nil: rows add up
	doubt time.Time  // since when it is not known to be right; zero when it is
	after time.Time  // no audit before
	wait  time.Duration
}

// NewAuditor returns an auditor. Several may have the same metrics.
func NewAuditor(cfg AuditorConfig, store Store, repairer Repairer, kept KeptStore, ledger Ledger, metrics *AuditMetrics,
	log *slog.Logger) *Auditor {
	a := &Auditor{cfg: cfg, store: store, repairer: repairer, kept: kept, ledger: ledger, metrics: metrics, log: log}
	for _, table := range cfg.Tables {
		a.tables = append(a.tables, &audited{Filled: table})
	}
	for i := range cfg.Kept {
		table := Table{Name: cfg.Kept[i].Name, Width: 1}
		a.tables = append(a.tables, &audited{Filled: Filled{Table: table}, kept: &cfg.Kept[i]})
	}
	return a
}

// Doubt says that a block whose insert began before now may be lost. It does not block, and is safe for concurrent use.
func (a *Auditor) Doubt() {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	for _, t := range a.tables {
		t.doubt = now
	}
}

// Run audits what is in doubt until ctx ends. stored is called now and then, by this goroutine.
func (a *Auditor) Run(ctx context.Context, stored func() []Stored) {
	tick := time.NewTicker(auditTick)
	defer tick.Stop()
	noted := time.Now() // or when it was not worth a note
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, t := range a.tables {
			if a.due(t, time.Now()) && a.audit(ctx, t, stored()) {
				noted = time.Time{}
			}
		}
		if now := stored(); len(now) > 0 && time.Since(noted) >= auditNote {
			if err := a.note(ctx, now); err != nil && ctx.Err() == nil {
				a.log.Warn("what is stored was not noted: trying again", "err", err)
			}
			noted = time.Now()
		}
	}
}

// due says whether the pane that was open at the last doubt is over, and late enough for the audit to look at it.
func (a *Auditor) due(t *audited, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	over := time.Unix(ceil(t.doubt.Unix()+1, t.Width), 0).Add(t.Delay + flowMargin)
	return !t.doubt.IsZero() && !now.Before(over) && !now.Before(t.after)
}

// audit says whether the table is known to be right now.
func (a *Auditor) audit(ctx context.Context, t *audited, stored []Stored) bool {
	if len(stored) == 0 {
		return false // no partition is ours
	}
	a.mu.Lock()
	doubt := t.doubt
	a.mu.Unlock()
	found, err := a.look(ctx, t, stored)
	if ctx.Err() != nil {
		return false
	}
	a.report(t, &found, err)
	a.mu.Lock()
	defer a.mu.Unlock()
	left := len(found.Missing) > found.Repaired
	if err != nil || left {
		t.wait = min(max(2*t.wait, auditRetry), auditRest)
		t.after = time.Now().Add(t.wait)
		return false
	}
	t.wait, t.after = 0, time.Time{}
	if !t.doubt.Equal(doubt) {
		return false // another, which this audit need not have seen
	}
	t.doubt = time.Time{}
	return true
}

func (a *Auditor) look(ctx context.Context, t *audited, stored []Stored) (Audited, error) {
	known, err := a.ledger.Known(ctx, stored[0].Topic, t.Name)
	if err != nil {
		return Audited{}, err
	}
	now := time.Now()
	cfg := AuditConfig{
		Table: t.Filled, Since: now.Add(-a.cfg.Range), After: Offsets{}, Now: now, Most: auditMost,
		MaxFuture: a.cfg.MaxFuture, Decode: a.cfg.Decode,
	}
	for _, s := range stored {
		cfg.After[s.Partition] = known[s.Partition]
	}
	if t.kept != nil {
		return AuditKept(ctx, cfg, *t.kept, a.kept, a.cfg.Repair)
	}
	if a.cfg.Replaced != nil {
		if cfg.Replaced, err = a.cfg.Replaced(ctx); err != nil {
			return Audited{}, err
		}
	}
	if a.cfg.Repair {
		return Repair(ctx, cfg, a.store, a.repairer)
	}
	return Audit(ctx, cfg, a.store)
}

func (a *Auditor) report(t *audited, found *Audited, err error) {
	a.metrics.audited(a, t.Name, found, err)
	for i, m := range found.Missing {
		a.log.Warn("a block is missing in ClickHouse", "table", t.Name, "ingest", m.Ingest, "partition", m.Partition,
			"offset", m.Offset, "rows", m.Rows, "repaired", i < found.Repaired)
	}
	switch {
	case errors.Is(err, ErrUnresolved), errors.Is(err, ErrTooMuch):
		a.log.Error("ClickHouse does not hold what the results say", "table", t.Name, "err", err)
	case err != nil:
		a.log.Warn("audit ended early: trying again", "table", t.Name, "err", err)
	default:
		level := slog.LevelDebug // nothing is news after each start, of ten tables
		if found.Repaired > 0 {
			level = slog.LevelInfo
		}
		a.log.Log(context.Background(), level, "results audited", "table", t.Name, "blocks", found.Blocks, "rows", found.Rows,
			"from", clock(found.From), "to", clock(found.To), "repaired", found.Repaired)
	}
}

// note writes how far all is stored, and known to be in tables that are not in doubt. What is stored was read before
// the doubts: an insert that is in doubt casts it before its record counts as stored.
func (a *Auditor) note(ctx context.Context, stored []Stored) error {
	next := Offsets{}
	for _, s := range stored {
		next[s.Partition] = s.Next
	}
	return a.ledger.Note(ctx, stored[0].Topic, a.known(), next)
}

// known is what a note is about.
func (a *Auditor) known() []string {
	about := []string{""}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, t := range a.tables {
		if t.doubt.IsZero() {
			about = append(about, t.Name)
		}
	}
	return about
}

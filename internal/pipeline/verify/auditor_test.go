package verify_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/vigie-io/vigie/internal/pipeline/verify"
)

// installation is results, tables and a ledger in memory, with one results partition.
type installation struct {
	mu     sync.Mutex
	blocks fakeResults
	rows   fakeStore
	known  map[string]verify.Offsets // by what it is about
	read   []int64                   // offsets of blocks, as they were read
	away   error                     // of results
	resent []int64
	lacks  map[int64]bool // blocks whose rows that replace each other are missing
}

func (in *installation) Lacks(_ context.Context, table string, b *verify.Block) (int, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.lacks[b.Offset] && table == verify.KeptWindows {
		return 1, nil
	}
	return 0, nil
}

func (in *installation) Again(_ context.Context, _ string, b *verify.Block) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	delete(in.lacks, b.Offset)
	return nil
}

func (in *installation) Span(ctx context.Context, since time.Time) (verify.Span, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.away != nil {
		return verify.Span{}, in.away
	}
	return in.blocks.Span(ctx, since)
}

func (in *installation) Settle(context.Context, verify.Offsets) error { return nil }

func (in *installation) Blocks(ctx context.Context, from, to verify.Offsets, fn func(*verify.Block) error) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.blocks.Blocks(ctx, from, to, func(b *verify.Block) error {
		in.read = append(in.read, b.Offset)
		return fn(b)
	})
}

func (in *installation) Rows(ctx context.Context, q verify.Query, yield func(*verify.Row) error) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.rows.Rows(ctx, q, yield)
}

func (in *installation) Next(ctx context.Context, q verify.Query) (start int64, found bool, err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.rows.Next(ctx, q)
}

func (in *installation) Note(_ context.Context, topic string, about []string, next verify.Offsets) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, name := range about {
		in.known[topic+name] = maps.Clone(next)
	}
	return nil
}

func (in *installation) Known(_ context.Context, topic, about string) (verify.Offsets, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.known[topic+about], nil
}

func (in *installation) Resend(_ context.Context, m *verify.Missing) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.resent = append(in.resent, m.Offset)
	return nil
}

func (in *installation) Repair(ctx context.Context, table verify.Table,
	fn func(func(context.Context, *verify.Missing) error) error) error {
	return fn(func(_ context.Context, m *verify.Missing) error {
		in.mu.Lock()
		defer in.mu.Unlock()
		rows, err := decode(m.Bytes)
		if err == nil {
			in.rows.insertInto(table, rows)
		}
		return err
	})
}

func (in *installation) stored() []verify.Stored {
	in.mu.Lock()
	defer in.mu.Unlock()
	return []verify.Stored{{Topic: "id/", Partition: 0, Next: int64(len(in.blocks.blocks))}}
}

// reads are the offsets of blocks in the order they were read; resends of those that were sent again.
func (in *installation) reads() []int64 {
	in.mu.Lock()
	defer in.mu.Unlock()
	return slices.Clone(in.read)
}

func (in *installation) resends() []int64 {
	in.mu.Lock()
	defer in.mu.Unlock()
	return slices.Clone(in.resent)
}

// keptResults are the same records as windows, read without the installation's lock held.
type keptResults struct{ *installation }

func (k keptResults) Blocks(ctx context.Context, from, to verify.Offsets, fn func(*verify.Block) error) error {
	k.mu.Lock()
	blocks := fakeResults{blocks: slices.Clone(k.blocks.blocks)}
	k.mu.Unlock()
	return blocks.Blocks(ctx, from, to, fn)
}

// add makes a result block with one row; lost leaves it out of the tables.
func (in *installation) add(t *testing.T, pane time.Time, count uint64, lost bool) {
	t.Helper()
	rows, encoded := block(t, pane, count)
	in.mu.Lock()
	defer in.mu.Unlock()
	in.blocks.blocks = append(in.blocks.blocks, encoded)
	if !lost {
		in.rows.insert(rows)
	}
}

// knownOf is how far a table is known to be right, -1 when it is not.
func (in *installation) knownOf(table string) int64 {
	in.mu.Lock()
	defer in.mu.Unlock()
	if next, ok := in.known["id/"+table][0]; ok {
		return next
	}
	return -1
}

// audited runs an auditor in fake time.
func audited(t *testing.T, repair bool, fn func(in *installation, a *verify.Auditor, reg *prometheus.Registry)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		in := &installation{rows: fakeStore{rows: map[string]map[verify.Key]*row{}}, known: map[string]verify.Offsets{}}
		reg := prometheus.NewRegistry()
		var tables []verify.Filled
		for _, table := range verify.Tables()[:2] {
			tables = append(tables, verify.Filled{Table: table, Results: []verify.Results{in}, Delay: 5 * time.Second})
		}
		a := verify.NewAuditor(verify.AuditorConfig{Tables: tables,
			Kept: []verify.KeptTable{{Name: verify.KeptWindows, Results: keptResults{in}}}, Repair: repair, Range: 3 * time.Hour,
			Decode: decode},
			in, in, in, in, verify.NewAuditMetrics(reg), slog.New(slog.NewTextHandler(io.Discard, nil)))
		a.Doubt() // as at a start
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { a.Run(ctx, in.stored) })
		fn(in, a, reg)
		cancel()
		running.Wait()
	})
}

func gauge(t *testing.T, reg *prometheus.Registry, name, table string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == name && m.GetLabel()[0].GetValue() == table {
				return m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	t.Fatalf("no metric %s of %s", name, table)
	return 0
}

// What a crash before the start lost is put back once the pane that was open then is over, and not before.
func TestAuditorRepairsAfterTheStart(t *testing.T) {
	audited(t, true, func(in *installation, _ *verify.Auditor, reg *prometheus.Registry) {
		began := time.Now()
		in.add(t, began.Add(-time.Minute), 3, false)
		in.add(t, began, 5, true)
		time.Sleep(24 * time.Second) // the pane is over after 10 s; 5 s and 10 s later an audit looks at it
		if len(in.reads()) > 0 {
			t.Errorf("before the pane was over: got %d blocks read, want none", len(in.reads()))
		}
		time.Sleep(5 * time.Second)
		if got := in.knownOf("rollups_10s"); got != 2 {
			t.Errorf("rollups_10s is known up to %d, want 2", got)
		}
		if got := in.knownOf("rollups_1m"); got != -1 {
			t.Errorf("rollups_1m, whose pane is not over, is known up to %d, want nothing", got)
		}
		time.Sleep(time.Minute)
		for _, table := range verify.Tables()[:2] {
			if got := in.knownOf(table.Name); got != 2 {
				t.Errorf("%s is known up to %d, want 2", table.Name, got)
			}
			if found, repaired := gauge(t, reg, "vigie_sink_audit_differences_total", table.Name), gauge(t, reg, "vigie_sink_audit_repaired_total", table.Name); found != 1 || repaired != 1 {
				t.Errorf("%s: got %v found, %v repaired, want 1 and 1", table.Name, found, repaired)
			}
		}
		if got := in.resends(); !slices.Equal(got, []int64{1, 1}) {
			t.Errorf("got %v sent again, want block 1 for each table", got)
		}
	})
}

// While nothing is in doubt no audit runs, and how far tables are right is noted; an audit then begins where that was.
func TestAuditorBeginsWhereTablesWereRight(t *testing.T) {
	audited(t, true, func(in *installation, a *verify.Auditor, reg *prometheus.Registry) {
		in.add(t, time.Now().Add(-time.Hour), 1, false)
		time.Sleep(3 * time.Minute)
		in.add(t, time.Now(), 2, false)
		time.Sleep(2 * time.Minute)
		if got := in.knownOf("rollups_10s"); got != 2 {
			t.Fatalf("rollups_10s is known up to %d, want 2", got)
		}
		in.mu.Lock()
		in.read = nil
		in.mu.Unlock()
		time.Sleep(time.Hour)
		if len(in.reads()) > 0 {
			t.Errorf("got blocks %v read without a doubt, want none", in.reads())
		}
		a.Doubt()
		in.add(t, time.Now(), 4, true)
		time.Sleep(12 * time.Second)
		if got := in.knownOf("rollups_10s"); got != 2 {
			t.Errorf("in doubt: rollups_10s is known up to %d, want 2 still", got)
		}
		time.Sleep(2 * time.Minute)
		if got := in.knownOf("rollups_10s"); got != 3 || gauge(t, reg, "vigie_sink_audit_repaired_total", "rollups_10s") != 1 {
			t.Errorf("rollups_10s is known up to %d, want 3, with one block put back", got)
		}
		if in.reads()[0] != 2 {
			t.Errorf("the audit began with block %d, want 2", in.reads()[0])
		}
	})
}

// A doubt while an audit waits makes it wait on: the block may have rows in a pane that is not over.
func TestAuditorWaitsForTheLastDoubt(t *testing.T) {
	audited(t, true, func(in *installation, a *verify.Auditor, _ *prometheus.Registry) {
		for range 20 {
			time.Sleep(9 * time.Second)
			a.Doubt()
		}
		if len(in.reads()) > 0 || in.knownOf("rollups_10s") != -1 {
			t.Errorf("got %d blocks read in doubt, want none", len(in.reads()))
		}
	})
}

// Without leave to repair, what is missing is told until somebody has put it back. An audit that cannot be made says
// nothing about the table.
func TestAuditorReports(t *testing.T) {
	audited(t, false, func(in *installation, a *verify.Auditor, reg *prometheus.Registry) {
		in.add(t, time.Now(), 5, true)
		time.Sleep(2 * time.Minute)
		f := func(name string, want float64) {
			t.Helper()
			if got := gauge(t, reg, "vigie_sink_audit_"+name, "rollups_10s"); got != want {
				t.Errorf("%s: got %v, want %v", name, got, want)
			}
		}
		f("unrepaired", 1)
		f("failures_total", 0)
		in.mu.Lock()
		in.away = errors.New("the broker is away")
		in.mu.Unlock()
		time.Sleep(10 * time.Minute)
		f("unrepaired", 1)
		if got := testutil.CollectAndCount(reg, "vigie_sink_audit_failures_total"); got == 0 ||
			gauge(t, reg, "vigie_sink_audit_failures_total", "rollups_10s") == 0 {
			t.Error("got no failed audit, want some")
		}
		in.mu.Lock()
		in.away = nil
		rows, _ := decode(in.blocks.blocks[0])
		in.rows.insertInto(verify.Tables()[0], rows)
		in.mu.Unlock()
		time.Sleep(2 * time.Hour)
		f("unrepaired", 0)
		if got := in.knownOf("rollups_10s"); got != 1 {
			t.Errorf("rollups_10s is known up to %d, want 1", got)
		}
	})
}

// More than crashes lose is left to a person.
func TestAuditorLeavesMuch(t *testing.T) {
	audited(t, true, func(in *installation, _ *verify.Auditor, reg *prometheus.Registry) {
		for i := range 100 {
			in.add(t, time.Now().Add(-time.Duration(i)*10*time.Second), uint64(i+1), true)
		}
		time.Sleep(10 * time.Minute)
		if got := gauge(t, reg, "vigie_sink_audit_repaired_total", "rollups_10s"); got != 0 {
			t.Errorf("got %v blocks put back, want none", got)
		}
		if got := gauge(t, reg, "vigie_sink_audit_unrepaired", "rollups_10s"); got != 100 {
			t.Errorf("got %v unrepaired, want 100", got)
		}
	})
}

// Rows that replace each other are put back without waiting for a pane to be over.
func TestAuditorRepairsKeptRows(t *testing.T) {
	audited(t, true, func(in *installation, _ *verify.Auditor, reg *prometheus.Registry) {
		in.add(t, time.Now(), 1, false)
		in.add(t, time.Now(), 2, false)
		in.mu.Lock()
		in.lacks = map[int64]bool{1: true}
		in.mu.Unlock()
		time.Sleep(18 * time.Second)
		if got := gauge(t, reg, "vigie_sink_audit_repaired_total", verify.KeptWindows); got != 1 {
			t.Errorf("got %v blocks inserted again, want 1", got)
		}
		if got := in.knownOf(verify.KeptWindows); got != 2 {
			t.Errorf("windows are known up to %d, want 2", got)
		}
		if got := in.knownOf("rollups_10s"); got != -1 {
			t.Errorf("rollups_10s is known up to %d, before its pane is over", got)
		}
	})
}

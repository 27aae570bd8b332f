package clickhouse_test

import (
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/coarse"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/verify"
)

// What was noted last holds, apart by topic, partition and what it is about.
func TestLedger(t *testing.T) {
	_, client := migrated(t, nil)
	ledger := clickhouse.NewLedger(client)
	note := func(topic string, about []string, next verify.Offsets) {
		t.Helper()
		if err := ledger.Note(t.Context(), topic, about, next); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Millisecond) // the notes' clock has milliseconds
	}
	f := func(topic, about string, want verify.Offsets) {
		t.Helper()
		got, err := ledger.Known(t.Context(), topic, about)
		if err != nil || !maps.Equal(got, want) {
			t.Errorf("topic %q, about %q: got %v, %v, want %v", topic, about, got, err, want)
		}
	}
	f("a'\\", "", verify.Offsets{})
	note("a'\\", []string{"", "rollups_10s"}, verify.Offsets{0: 10, 3: 7})
	note("a'\\", []string{""}, verify.Offsets{0: 12})
	note("b", []string{""}, verify.Offsets{0: 99})
	note("b", nil, verify.Offsets{0: 100})
	f("a'\\", "", verify.Offsets{0: 12, 3: 7})
	f("a'\\", "rollups_10s", verify.Offsets{0: 10, 3: 7})
	f("a'\\", "rollups_1m", verify.Offsets{})
	f("b", "", verify.Offsets{0: 99})
	note("b", []string{""}, verify.Offsets{0: 50}) // the group was set back
	f("b", "", verify.Offsets{0: 50})
}

// A block that no table has, because it was skipped, is inserted under its token before anything is put back past the
// token: whoever inserts it later, as a sink does whose group is set back, doubles nothing.
func TestRepairOfWhatWasSkipped(t *testing.T) {
	for _, test := range []struct {
		ingest     string
		remembered bool
	}{{pipeline.TablePanes, true}, {coarse.TableMinutes, true}, {pipeline.TableRollups, true}, {coarse.TableMinutes, false}} {
		server, client := migrated(t, nil)
		now := time.Now()
		blocks := makeBlocks(t, test.ingest, now.Add(-30*time.Minute).Unix()/60*60, 4)
		if test.remembered {
			if err := clickhouse.NewLedger(client).Note(t.Context(), "id", []string{""}, verify.Offsets{0: 0}); err != nil {
				t.Fatal(err)
			}
		}
		for _, offset := range []int{0, 1, 3} {
			blocks.insert(t, client, offset)
		}
		var tables []verify.Table
		for _, table := range verify.Tables() {
			if fills(test.ingest, table) {
				tables = append(tables, table)
			}
		}
		for _, table := range tables {
			found, err := repairTable(t, client, table, now, blocks)
			if err != nil {
				t.Fatal(err)
			}
			if past := found.Repaired == 1; past == test.remembered {
				t.Errorf("%+v, %s: got %d parts put past the token", test, table.Name, found.Repaired)
			}
		}
		count := func() string { return ask(t, server, "SELECT sum(count) FROM vigie."+tables[0].Name) }
		whole := count()
		blocks.insert(t, client, 2)
		got := count()
		if test.remembered && got != whole {
			t.Errorf("%+v: inserted again under its token: got count %s, want %s still", test, got, whole)
		}
		if !test.remembered && got == whole {
			t.Error("the token of a block that was put past it is known: this test shows nothing")
		}
		for _, table := range tables {
			if found := audit(t, client, table, now, blocks); test.remembered && (len(found.Missing) > 0 || found.Surplus > 0) {
				t.Errorf("%+v, %s: got %+v, want nothing missing and nothing too much", test, table.Name, found)
			}
		}
	}
}

// A sink goes on where results were inserted, or where tables are sure to know what they were given; nowhere else.
func TestLedgerResume(t *testing.T) {
	_, client := migrated(t, nil)
	ledger := clickhouse.NewLedger(client)
	virgins := map[int32]bool{}
	f := func(partition int32, next int64, want error) {
		t.Helper()
		virgin, err := ledger.Resume(t.Context(), "id", partition, next)
		if !errors.Is(err, want) || want != nil && !strings.Contains(err.Error(), "to 100") {
			t.Errorf("partition %d from %d: got %v, want %v", partition, next, err, want)
		}
		if first := !virgins[partition]; virgin != first {
			t.Errorf("partition %d from %d: got virgin %v, want %v", partition, next, virgin, first)
		}
		virgins[partition] = true
	}
	note := func(next int64) {
		t.Helper()
		time.Sleep(2 * time.Millisecond)
		if err := ledger.Note(t.Context(), "id", []string{""}, verify.Offsets{0: next}); err != nil {
			t.Fatal(err)
		}
	}
	blocks := makeBlocks(t, pipeline.TableRollups, time.Now().Unix()/60*60, 7)
	blocks.insert(t, client, 0) // a table without parts does not say which numbers migrations took
	f(0, 40, nil)               // the first ever
	note(60)
	f(0, 45, nil) // a crash before the offsets were committed
	if _, err := ledger.Resume(t.Context(), "id", 0, 39); !errors.Is(err, clickhouse.ErrForgotten) ||
		!strings.Contains(err.Error(), "to 60") {
		t.Errorf("from before the first: got %v, want ErrForgotten", err)
	}
	f(1, 0, nil)
	for offset := 1; offset < len(blocks.list); offset++ {
		blocks.insert(t, client, offset)
	}
	note(100)
	f(0, 100, nil)
	f(0, 130, nil) // set forward, or noted late
	f(0, 60, nil)
	ledger.RememberParts(6) // six parts have come since 60 was noted
	f(0, 60, clickhouse.ErrForgotten)
	f(0, 99, clickhouse.ErrForgotten)
	f(0, 100, nil)
	ledger.RememberParts(7)
	f(0, 60, nil)
}

package simulation

import (
	"fmt"
	"slices"
	"time"

	"github.com/vigie-io/vigie/internal/clickhouse"
)

// insertFault is what goes wrong with inserts.
type insertFault struct {
	kind    string
	table   string        // "" for any
	left    int           // inserts to go
	parts   int           // that faultDuring lets through
	delay   time.Duration // before anything is stored
	silence time.Duration // of faultHang, after it is stored
	err     error
}

// Kinds of insertFault.
const (
	faultBefore = "before" // refused connection: nothing is stored
	faultDuring = "during" // some parts are stored, then an exception
	faultAfter  = "after"  // all is stored, and the answer lost
	faultHang   = "hang"   // all is stored, and the connection stays open without an answer
	faultSlow   = "slow"   // it takes long, and succeeds
	faultRefuse = "refuse" // an exception that puts the blame on the block
)

// fault is what to do to the next insert into a table; the zero value is nothing.
func (s *Server) fault(table string) insertFault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, f := range s.faults {
		if f.table != "" && f.table != table {
			continue
		}
		if f.left--; f.left == 0 {
			s.faults = slices.Delete(s.faults, i, i+1)
		}
		s.hits.add("sink "+f.kind, 1)
		return *f
	}
	return insertFault{}
}

func (s *Server) addFault(f insertFault) {
	switch f.kind {
	case faultBefore:
		f.err = errRefused
	case faultDuring:
		f.err = &clickhouse.Error{Status: 500, Code: codeKeeper, Message: "while pushing to view"}
	case faultAfter, faultHang:
		f.err = fmt.Errorf("read: connection reset by peer")
	case faultRefuse:
		f.err = corrupted(nil)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &f)
}

func (s *Server) setReadOnly(until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readOnly = until
}

// setAway has the server answer nobody for a time.
func (s *Server) setAway(until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = until
}

// stall lets nothing of a partition be stored for a time.
func (s *Server) stall(of stalled, until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stalled[of] = until
}

func (s *Server) heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults, s.readOnly, s.away = nil, time.Time{}, time.Time{}
	clear(s.stalled)
}

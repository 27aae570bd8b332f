package backfill

import (
	"context"
	"errors"
	"time"

	"github.com/vigie-io/vigie/internal/pipeline/windowed"
)

// ErrRefused is wrapped by errors of Store.Insert when the block itself is at fault: repeating it does not help.
var ErrRefused = errors.New("block refused")

// Store is where blocks and the ledger go. It must be safe for concurrent use.
type Store interface {
	// Insert stores one native block of a result table, or finds that it was stored before under the token. After an
	// error that does not wrap ErrRefused the same call may be repeated.
	Insert(ctx context.Context, table, token string, rows int, block []byte) error
	// Entries returns what the ledger says of a file of a job, in no order; of each chunk once.
	Entries(ctx context.Context, job, file string) ([]Entry, error)
	// Record writes an entry. It returns when the entry is stored.
	Record(ctx context.Context, job, file string, e *Entry) error
	// Mark is a number that grows by one at least with every part that an insert adds to a result table.
	Mark(ctx context.Context) (uint64, error)
	// Note notes which hours a job adds to, before it does.
	Note(ctx context.Context, job string, hours []Hours) error
	// Meets returns which of some rows of windows, by their indexes, have a window that is stored of another part: one
	// of the same series, rule and bounds, or of sessions one that overlaps. Late rows are none.
	Meets(ctx context.Context, rows *windowed.Rows, of []int) ([]int, error)
	// Replaced is all that jobs have ever put in the place of other results.
	Replaced(ctx context.Context) (Replaced, error)
}

// Lister is a Store that knows the files of a job.
type Lister interface {
	Store
	// Files are the names of the files that a job has begun, by their hash.
	Files(ctx context.Context, job string) (map[string]string, error)
}

// Hours are hours of a metric, since 1970; To is exclusive.
type Hours struct {
	Tenant, Metric string
	From, To       int64
}

// State of an entry.
type State uint8

// States. The numbers are part of the storage format.
const (
	Begun    State = 1
	Finished State = 2
)

// wholeFile is the Chunk of the entry of a file itself.
const wholeFile = -1

// Entry is a row of the ledger.
type Entry struct {
	Chunk   int64 // −1 is the file itself; in the ledger of windows a rule
	State   State
	Name    string    // of the file
	Plan    string    // of the file, "" on chunks
	Started time.Time // milliseconds
	Mark    uint64    // Store.Mark when the chunk was begun
	Rows    uint64
	Events  uint64
	Rejects uint64
}

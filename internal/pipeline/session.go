package pipeline

import (
	"cmp"
	"context"

	"github.com/vigie-io/vigie/pkg/events"
)

// Partition names one source partition.
type Partition struct {
	Topic     string
	Partition int32
}

// Compare orders partitions by topic and number.
func (p Partition) Compare(other Partition) int {
	return cmp.Or(cmp.Compare(p.Topic, other.Topic), cmp.Compare(p.Partition, other.Partition))
}

// Header is one Kafka record header.
type Header struct {
	Key   string
	Value []byte
}

// Record is one source record. Its texts and slices are valid until the next Poll, or as long as Unread says.
type Record struct {
	Offset    int64
	Timestamp int64 // Unix nanoseconds, the producer's
	Key       []byte
	Value     []byte // nil for a tombstone
	Headers   []Header
	BadBatch  *BadBatch // nil for all but a few
}

// BadBatch says that a record stands for all records of a batch that could not be unpacked, or not within what a batch
// may take. Its offset is the last of theirs, its timestamp their newest, and it has no key, value or headers.
type BadBatch struct {
	Why  string // which batch, and what is wrong with it
	Size int64  // of the batch, as it is in the log
}

// Unread are records that are read as they are stepped: a few of them are in the nearest cache then, and those of a
// poll never are.
type Unread struct {
	First, Last int64 // offsets
	Len         int
	// Read returns the next records, in room, as many as fit; none when all have been read. They are valid until the
	// next Read of any chunk.
	Read func(room []Record) []Record
}

// Chunk is a run of records of one partition, in offset order, at least one.
type Chunk struct {
	Partition Partition
	Signal    events.Signal
	Records   []Record
	Unread    Unread // behind Records, if its Read is not nil
	LogStart  int64  // first offset that was there when they were fetched; -1 when unknown
	Rewound   bool   // the log lost its end and goes on with other records: offsets come again
}

// Len is how many records there are.
func (c *Chunk) Len() int { return len(c.Records) + c.Unread.Len }

// first and last are offsets.
func (c *Chunk) first() int64 {
	if len(c.Records) > 0 {
		return c.Records[0].Offset
	}
	return c.Unread.First
}

func (c *Chunk) last() int64 {
	if c.Unread.Len > 0 {
		return c.Unread.Last
	}
	return c.Records[len(c.Records)-1].Offset
}

// ends says whether the partition gives nothing more until the epoch has ended.
func (c *Chunk) ends() bool {
	n := len(c.Records)
	return n > 0 && c.Records[n-1].BadBatch != nil
}

// more reads further records into room.
func (c *Chunk) more(room []Record) []Record {
	if c.Unread.Read == nil {
		return nil
	}
	return c.Unread.Read(room)
}

// Reach says how far one assigned partition has been polled.
type Reach struct {
	Partition Partition
	Signal    events.Signal
	Lag       int64 // records between the last one polled and the last stable offset
	Next      int64 // offset behind the last record or marker polled; 0 when nothing was
	Through   int64 // Unix ms: every record appended before it has been returned by Poll; 0 when unknown
	// Assignment grows each time the partition is given to the session anew. State restored under one is stale under
	// the next. It changes only after a Commit that returned false.
	Assignment uint64
}

// Fetch is what one Poll returned. Assigned lists every partition the session owns now, also those without
// records; a partition that is missing has been revoked and its task must go.
type Fetch struct {
	Chunks   []Chunk
	Assigned []Reach
}

// Message is one record to produce inside the epoch's transaction.
type Message struct {
	Topic     string
	Partition int32 // -1: by key
	Key       []byte
	Value     []byte
	Headers   []Header
}

// Session is one worker's transactional consumer and producer: what it polls, produces and commits becomes
// visible together or not at all. One goroutine uses it; Restore, Release and Stored may be called from
// others beside it.
type Session interface {
	// Poll waits for records until ctx ends, and returns what came (an empty Fetch at the deadline is no error).
	// An error is fatal: the worker closes the session and starts anew.
	Poll(ctx context.Context) (Fetch, error)
	// Commit produces messages and commits the offsets of everything polled, in one transaction. It returns
	// false when the transaction was aborted (a rebalance): nothing of it is visible, and Poll continues from
	// the last committed offsets, so the worker must forget what it accumulated since. An error is fatal.
	// An idle worker calls it without messages about once a second. messages are the worker's again afterwards.
	Commit(ctx context.Context, messages []Message) (committed bool, err error)
	// Restore reads the change log of the state of a source partition that is assigned, up to what was written before
	// the assignment, and calls apply with the committed records in order, but for some that a later one of the same
	// key takes the place of; a nil value is a tombstone, and the record is valid during the call. It may have to wait
	// for a transaction to end. It returns where Poll begins in the source, the first error of apply, or why the log
	// cannot be read.
	Restore(ctx context.Context, source Partition, apply func(*Record) error) (Origin, error)
	// Seek sets the group's offset of a source partition that is assigned and not released. It returns ErrMoved when
	// that is done: then Poll ends the session when no state is being read, and the next session begins there.
	Seek(ctx context.Context, source Partition, to Move) error
	// Release lets Poll return records of partitions: those of a new assignment are held back until then. It ignores a
	// partition whose Assignment is not the present one.
	Release(reaches ...Reach)
	// Stored calls stored for each of sources, which have just been assigned, once all that other workers wrote of it
	// before the assignment is where readers see it, or there is no such thing. It returns nil when that is so of all,
	// and else when ctx ends, with what kept it.
	Stored(ctx context.Context, sources []Partition, stored func(Partition)) error
	// ResultPartition is the results partition of this worker (its slot modulo the partitions there are).
	ResultPartition() int32
}

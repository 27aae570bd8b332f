package clickhouse

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"unsafe"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/vigie-io/vigie/pkg/series"
)

// blockReader reads a native block as block writes it, column by column, into memory of the caller: ch-go's columns
// would make a string of each value, and new memory for each block. Texts lie in the block. After the first error it
// reads nothing.
type blockReader struct {
	rest  []byte
	rows  int
	err   error
	words []string // of a dictionary
}

var blockReaders = sync.Pool{New: func() any { return new(blockReader) }}

var errShort = errors.New("unexpected end")

// readBlock begins with the header of a block of so many columns.
func readBlock(data []byte, columns int) *blockReader {
	r := blockReaders.Get().(*blockReader)
	r.rest = data
	has, rows := r.uvarint(), r.uvarint()
	switch {
	case r.err != nil:
	case has != uint64(columns):
		r.fail(fmt.Errorf("%d columns, want %d", has, columns))
	case rows == 0 || rows > uint64(len(data)):
		r.fail(fmt.Errorf("%d rows in %d bytes", rows, len(data)))
	default:
		r.rows = int(rows)
	}
	return r
}

// release gives the reader back, and returns what went wrong.
func (r *blockReader) release() error {
	err := r.err
	clear(r.words)
	*r = blockReader{words: r.words[:0]}
	blockReaders.Put(r)
	return err
}

func (r *blockReader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.rest, r.rows = nil, 0
}

// take returns the next n bytes, which are those of the block, or none.
func (r *blockReader) take(n uint64) []byte {
	if n > uint64(len(r.rest)) {
		r.fail(errShort)
		return nil
	}
	taken := r.rest[:n]
	r.rest = r.rest[n:]
	return taken
}

func (r *blockReader) uvarint() uint64 {
	v, width := binary.Uvarint(r.rest)
	if width <= 0 {
		r.fail(errShort)
		return 0
	}
	r.rest = r.rest[width:]
	return v
}

func (r *blockReader) int64() int64 {
	if b := r.take(8); len(b) == 8 {
		return int64(binary.LittleEndian.Uint64(b))
	}
	return 0
}

func (r *blockReader) text() string {
	b := r.take(r.uvarint())
	return unsafe.String(unsafe.SliceData(b), len(b))
}

// column takes the head of a column, which has to be the one that comes.
func (r *blockReader) column(name string, kind proto.ColumnType) {
	hasName, hasKind := r.text(), r.text()
	if r.err == nil && (hasName != name || hasKind != string(kind)) {
		r.fail(fmt.Errorf("column %.40q of type %.40q, want %s of type %s", hasName, hasKind, name, kind))
	}
}

func readColumn[T number](r *blockReader, name string, kind proto.ColumnType, into []T) []T {
	r.column(name, kind)
	return readNumbers(r, into)
}

// readNumbers replaces what into holds by a number a row.
func readNumbers[T number](r *blockReader, into []T) []T {
	width := int(unsafe.Sizeof(T(0)))
	data := r.take(uint64(r.rows) * uint64(width))
	into = slices.Grow(into[:0], len(data)/width)[:len(data)/width]
	switch width {
	case 1:
		for i, v := range data {
			into[i] = T(v)
		}
	case 4:
		for i := range into {
			into[i] = T(binary.LittleEndian.Uint32(data[4*i:]))
		}
	default:
		for i := range into {
			into[i] = T(binary.LittleEndian.Uint64(data[8*i:]))
		}
	}
	return into
}

func (r *blockReader) floatColumn(name string, into []float64) []float64 {
	r.column(name, proto.ColumnTypeFloat64)
	return r.floats(into)
}

func (r *blockReader) floats(into []float64) []float64 {
	data := r.take(uint64(r.rows) * 8)
	into = slices.Grow(into[:0], len(data)/8)[:len(data)/8]
	for i := range into {
		into[i] = math.Float64frombits(binary.LittleEndian.Uint64(data[8*i:]))
	}
	return into
}

func (r *blockReader) strings(into []string) []string {
	into = into[:0]
	for range r.rows {
		into = append(into, r.text())
	}
	return into
}

func (r *blockReader) ids(name string, into []series.ID) []series.ID {
	r.column(name, proto.ColumnTypeUInt128)
	data := r.take(uint64(r.rows) * 16)
	into = slices.Grow(into[:0], len(data)/16)[:len(data)/16]
	for i := range into {
		into[i] = series.ID{Lo: binary.LittleEndian.Uint64(data[16*i:]), Hi: binary.LittleEndian.Uint64(data[16*i+8:])}
	}
	return into
}

// lowCardinality takes a column that has its dictionary in the block.
func (r *blockReader) lowCardinality(name string, into []string) []string {
	r.column(name, proto.ColumnTypeLowCardinality.Sub(proto.ColumnTypeString))
	into = into[:0]
	version, flags, words := r.int64(), r.int64(), r.int64()
	width := proto.CardinalityKey(flags &^ dictionaryFlags)
	if r.err == nil && (version != dictionaryVersion || flags&dictionaryFlags != dictionaryFlags || width > proto.KeyUInt32 ||
		words < 1 || words > int64(r.rows)) {
		r.fail(fmt.Errorf("column %s: dictionary of version %d, flags %#x and %d words for %d rows", name, version, flags, words, r.rows))
	}
	if r.err != nil {
		return into
	}
	r.words = r.words[:0]
	for range words {
		r.words = append(r.words, r.text())
	}
	if keys := r.int64(); r.err == nil && keys != int64(r.rows) {
		r.fail(fmt.Errorf("column %s: %d keys for %d rows", name, keys, r.rows))
	}
	keys := r.take(uint64(r.rows) << width)
	for at := 0; at < len(keys); at += 1 << width {
		key := keyAt(keys[at:], width)
		if key >= uint64(len(r.words)) {
			r.fail(fmt.Errorf("column %s: word %d of %d", name, key, len(r.words)))
			return into
		}
		into = append(into, r.words[key])
	}
	return into
}

func keyAt(b []byte, width proto.CardinalityKey) uint64 {
	switch width {
	case proto.KeyUInt8:
		return uint64(b[0])
	case proto.KeyUInt16:
		return uint64(binary.LittleEndian.Uint16(b))
	}
	return uint64(binary.LittleEndian.Uint32(b))
}

// states takes what is left of the block as a state a row, and returns where each ends.
func (r *blockReader) states(into []int) (states []byte, ends []int) {
	states = r.rest
	ends, err := stateEnds(states, r.rows, into)
	if err != nil {
		r.fail(err)
	}
	return states, ends
}

package clickhouse

import (
	"encoding/binary"
	"math"
	"slices"
	"sync"
	"unsafe"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/vigie-io/vigie/pkg/series"
)

// block is a native block being written. Columns are written straight from the caller's slices: ch-go's columns would
// each copy their values first, which is most of the time of encoding.
type block struct {
	dst        []byte
	rows       int
	wrong      bool // a column had another length
	dictionary dictionary
}

var blocks = sync.Pool{New: func() any { return &block{dictionary: dictionary{index: map[string]uint32{}}} }}

func begin(dst []byte, rows, columns int) *block {
	b := blocks.Get().(*block)
	b.dst, b.rows, b.wrong = dst, rows, false
	header := proto.Buffer{Buf: b.dst}
	proto.Block{Columns: columns, Rows: rows}.EncodeAware(&header, protocol)
	b.dst = header.Buf
	return b
}

func (b *block) release() {
	b.dst = nil
	b.dictionary.reset()
	blocks.Put(b)
}

func (b *block) check(n int) { b.wrong = b.wrong || n != b.rows }

func (b *block) column(name string, kind proto.ColumnType) {
	b.text(name)
	b.text(string(kind))
}

func (b *block) text(s string) {
	b.dst = binary.AppendUvarint(b.dst, uint64(len(s)))
	b.dst = append(b.dst, s...)
}

func (b *block) int64(v int64) { b.dst = binary.LittleEndian.AppendUint64(b.dst, uint64(v)) }

type number interface {
	~uint8 | ~int32 | ~uint32 | ~int64 | ~uint64
}

func numberColumn[T number](b *block, name string, kind proto.ColumnType, values []T) {
	b.column(name, kind)
	numbers(b, values)
}

// numbers appends values in little endian.
func numbers[T number](b *block, values []T) {
	b.check(len(values))
	switch unsafe.Sizeof(T(0)) {
	case 1:
		for _, v := range values {
			b.dst = append(b.dst, byte(v))
		}
	case 4:
		room := b.extend(4 * len(values))
		for i, v := range values {
			binary.LittleEndian.PutUint32(room[4*i:], uint32(v))
		}
	default:
		room := b.extend(8 * len(values))
		for i, v := range values {
			binary.LittleEndian.PutUint64(room[8*i:], uint64(v))
		}
	}
}

// extend makes the block longer by n bytes, and returns them to be written.
func (b *block) extend(n int) []byte {
	at := len(b.dst)
	b.dst = slices.Grow(b.dst, n)[:at+n]
	return b.dst[at:]
}

func (b *block) floatColumn(name string, values []float64) {
	b.column(name, proto.ColumnTypeFloat64)
	b.floatValues(values)
}

func (b *block) floatValues(values []float64) {
	b.check(len(values))
	b.float64s(values)
}

func (b *block) float64s(values []float64) {
	room := b.extend(8 * len(values))
	for i, v := range values {
		binary.LittleEndian.PutUint64(room[8*i:], math.Float64bits(v))
	}
}

func (b *block) bools(values []bool) {
	b.check(len(values))
	for _, v := range values {
		if v {
			b.dst = append(b.dst, 1)
		} else {
			b.dst = append(b.dst, 0)
		}
	}
}

func (b *block) strings(values []string) {
	b.check(len(values))
	for _, v := range values {
		b.text(v)
	}
}

func (b *block) ids(name string, ids []series.ID) {
	b.column(name, proto.ColumnTypeUInt128)
	b.check(len(ids))
	room := b.extend(16 * len(ids))
	for i, id := range ids {
		binary.LittleEndian.PutUint64(room[16*i:], id.Lo)
		binary.LittleEndian.PutUint64(room[16*i+8:], id.Hi)
	}
}

func (b *block) lowCardinality(name string, values []string) {
	b.column(name, proto.ColumnTypeLowCardinality.Sub(proto.ColumnTypeString))
	b.check(len(values))
	b.int64(dictionaryVersion)
	b.dictionary.reset()
	for _, v := range values {
		b.dictionary.add(v, 1)
	}
	b.writeDictionary()
}

var typeLabels = proto.ColumnTypeMap.Sub(proto.ColumnTypeLowCardinality.Sub(proto.ColumnTypeString), proto.ColumnTypeString)

// labels writes a map column: where each row ends, then all names, then all values.
func (b *block) labels(name string, rows []series.Labels) {
	b.column(name, typeLabels)
	b.check(len(rows))
	b.int64(dictionaryVersion)
	end := uint64(0)
	for _, ls := range rows {
		end += uint64(len(ls))
		b.dst = binary.LittleEndian.AppendUint64(b.dst, end)
	}
	b.dictionary.reset()
	for _, ls := range rows {
		for _, l := range ls {
			b.dictionary.add(l.Name, len(ls))
		}
	}
	b.writeDictionary()
	for _, ls := range rows {
		for _, l := range ls {
			b.text(l.Value)
		}
	}
}

// Layout of a LowCardinality column (ch-go, proto.ColLowCardinality): version; then flags with the width of the keys,
// the dictionary, and one key a row.
const (
	dictionaryVersion = 1
	dictionaryFlags   = 1<<9 | 1<<10 // the dictionary is in the block, and is all there is
)

// dictionary numbers distinct strings in order of their first row.
type dictionary struct {
	index map[string]uint32
	words []string
	keys  []uint32
}

func (d *dictionary) reset() {
	clear(d.index)
	clear(d.words) // let go of the caller's strings
	d.words, d.keys = d.words[:0], d.keys[:0]
}

// add adds a word. Most are the same as the one so many words before: rows come sorted, or nearly.
func (d *dictionary) add(word string, before int) {
	if at := len(d.keys) - before; at >= 0 && d.words[d.keys[at]] == word {
		d.keys = append(d.keys, d.keys[at])
		return
	}
	key, known := d.index[word]
	if !known {
		key = uint32(len(d.words))
		d.index[word] = key
		d.words = append(d.words, word)
	}
	d.keys = append(d.keys, key)
}

func (b *block) writeDictionary() {
	d := &b.dictionary
	if len(d.keys) == 0 {
		return
	}
	width := proto.KeyUInt32
	switch n := len(d.words); {
	case n <= 1<<8:
		width = proto.KeyUInt8
	case n <= 1<<16:
		width = proto.KeyUInt16
	}
	b.int64(dictionaryFlags | int64(width))
	b.int64(int64(len(d.words)))
	for _, word := range d.words {
		b.text(word)
	}
	b.int64(int64(len(d.keys)))
	for _, key := range d.keys {
		switch width {
		case proto.KeyUInt8:
			b.dst = append(b.dst, byte(key))
		case proto.KeyUInt16:
			b.dst = binary.LittleEndian.AppendUint16(b.dst, uint16(key))
		default:
			b.dst = binary.LittleEndian.AppendUint32(b.dst, key)
		}
	}
}

package kafka

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"sync"
	"unsafe"

	"github.com/twmb/franz-go/pkg/kgo"
)

var (
	_ kgo.PoolDecompressBytes = (*memory)(nil)
	_ kgo.PoolRecords         = (*memory)(nil)
	_ kgo.HookFetchBatchRead  = (*memory)(nil)
)

// memory is what batches of records are unpacked into, again and again. The client takes it from here before it unpacks
// a batch and puts it back, cleared, when all records of the batch have been recycled. Memory that is new for each
// batch costs more than unpacking: the kernel hands out its pages and the collector has it cleared.
//
// It is safe for concurrent use.
type memory struct {
	mu      sync.Mutex
	bytes   shelf[byte]
	records shelf[kgo.Record]
	// growth is by how much batches of a codec grow when they are unpacked, at the most lately.
	growth [8]float64
}

// newMemory returns one that keeps at most so many bytes for later.
func newMemory(most int64) *memory {
	return &memory{bytes: newShelf[byte](most / 2), records: newShelf[kgo.Record](most / 2)}
}

// fade is how much of growth is left after a batch that grew less.
const fade = 0.999

// OnFetchBatchRead implements kgo.HookFetchBatchRead.
func (m *memory) OnFetchBatchRead(_ kgo.BrokerMetadata, _ string, _ int32, b kgo.FetchBatchMetrics) {
	m.grown(b)
}

// grown learns from a batch that was unpacked.
func (m *memory) grown(b kgo.FetchBatchMetrics) {
	if b.CompressedBytes <= 0 || int(b.CompressionType) >= len(m.growth) {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	g := &m.growth[b.CompressionType]
	*g = max(*g*fade, float64(b.UncompressedBytes)/float64(b.CompressedBytes))
}

// GetDecompressBytes implements kgo.PoolDecompressBytes.
func (m *memory) GetDecompressBytes(compressed []byte, codec kgo.CompressionCodecType) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.bytes.get(m.size(compressed, codec))
}

// size is about what a batch takes unpacked.
func (m *memory) size(compressed []byte, codec kgo.CompressionCodecType) int {
	if codec == kgo.CodecSnappy && !bytes.HasPrefix(compressed, []byte(javaSnappy)) {
		if n, width := binary.Uvarint(compressed); width > 0 && n <= uint64(len(compressed))*maxGuess {
			return int(n) // it says so itself
		}
	}
	const spare = 1 << 10 // readers ask for room behind the end, too
	guess := float64(len(compressed))*m.growth[codec&7]*1.05 + spare
	return int(min(guess, float64(len(compressed))*maxGuess+spare))
}

const (
	javaSnappy = "\x82SNAPPY\x00" // how Java begins a sequence of blocks
	// maxGuess bounds what a batch may make us set aside, as a multiple of its own size.
	maxGuess = 64
)

// PutDecompressBytes implements kgo.PoolDecompressBytes.
func (m *memory) PutDecompressBytes(b []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bytes.put(b)
}

// GetRecords implements kgo.PoolRecords.
func (m *memory) GetRecords(n int) []kgo.Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.records.get(n)
}

// PutRecords implements kgo.PoolRecords.
func (m *memory) PutRecords(r []kgo.Record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.records.put(r)
}

// recycle gives the memory of records back. They are not to be used any more.
func recycle(fetches kgo.Fetches) {
	for i := range fetches {
		for j := range fetches[i].Topics {
			partitions := fetches[i].Topics[j].Partitions
			for k := range partitions {
				for _, r := range partitions[k].Records {
					r.Recycle()
				}
			}
		}
	}
}

// shelf keeps slices by their size.
type shelf[T any] struct {
	most, held int64 // bytes
	free       map[int][][]T
}

func newShelf[T any](most int64) shelf[T] { return shelf[T]{most: most, free: make(map[int][][]T)} }

// get returns a slice with room for n.
func (s *shelf[T]) get(n int) []T {
	size := sizeAbove(n)
	list := s.free[size]
	if len(list) == 0 {
		return make([]T, 0, size)
	}
	last := len(list) - 1
	slice := list[last]
	list[last] = nil
	s.free[size] = list[:last]
	s.held -= bytesOf[T](size)
	return slice[:0]
}

// put keeps a slice. Where that would be too much, all others go: their sizes are not asked for any more, or else they
// would not have become that many.
func (s *shelf[T]) put(slice []T) {
	size := sizeBelow(cap(slice))
	bytes := bytesOf[T](size)
	if size == 0 || bytes > s.most {
		return
	}
	if s.held += bytes; s.held > s.most {
		clear(s.free)
		s.held = bytes
	}
	s.free[size] = append(s.free[size], slice[:0:size])
}

func bytesOf[T any](n int) int64 {
	var one T
	return int64(n) * int64(unsafe.Sizeof(one))
}

// Sizes have three binary digits that count, so that at most a fourth of a slice is in vain, and are eight at least.
func sizeAbove(n int) int {
	shift := max(bits.Len(uint(n))-3, 1)
	return max((n+1<<shift-1)>>shift<<shift, 8)
}

func sizeBelow(n int) int {
	if n < 8 {
		return 0
	}
	shift := max(bits.Len(uint(n))-3, 1)
	return n >> shift << shift
}

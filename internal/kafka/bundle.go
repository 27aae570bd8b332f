package kafka

import (
	"crypto/rand"
	"encoding/binary"
	"hash/maphash"
	"sync"
	"unsafe"

	"github.com/twmb/franz-go/pkg/kgo"
)

var (
	_ kgo.Decompressor = (*bundler)(nil)
	_ kgo.PoolRecords  = (*bundler)(nil)
)

// bundle is a batch of several records that the client has not taken apart. When the client asks for the batch unpacked
// it gets a placeholder: two records with the offsets of the first and the last, whose keys lead to the bundle. The
// client still does all else: it checks sums, keeps its place, follows leaders, and leaves out what was aborted or lies
// before its place. Only records it does not make, which would cost the most.
//
// The second record of a placeholder may come alone: then the client's place is within the batch.
type bundle struct {
	placeholder [2 * placeholderSize]byte
	bytes       []byte
	entries     []entry // two at least
}

const (
	sealSize = 16
	// A placeholder's record is six numbers of a byte, an offset of up to five and a key.
	placeholderSize = 6 + 5 + keySize
	keySize         = sealSize + 1
)

// bundler unpacks batches into bundles. It is safe for concurrent use.
type bundler struct {
	*memory
	unpacker *unpacker
	// seal begins the key of placeholders. No producer knows it, so no record looks like a placeholder.
	seal [sealSize]byte

	mu      sync.Mutex
	entries shelf[entry]
	spare   []*bundle
	density float64 // records in a byte of batches, at the most lately
	seed    maphash.Seed
	seen    map[uint64]struct{} // batches that were bundled
}

// maxSeen bounds how many are remembered.
const maxSeen = 1 << 12

// newBundler returns one that keeps at most so many bytes for later, and refuses batches that unpack to more than so
// many.
func newBundler(most int64, unpacked int) (*bundler, error) {
	m := newMemory(most)
	u, err := newUnpacker(m, unpacked)
	if err != nil {
		return nil, err
	}
	b := &bundler{memory: m, unpacker: u, entries: newShelf[entry](most / 2), seed: maphash.MakeSeed(),
		seen: map[uint64]struct{}{}}
	rand.Read(b.seal[:]) // which never fails
	return b, nil
}

// options make a client bundle what it fetches.
func (b *bundler) options() []kgo.Opt {
	return []kgo.Opt{kgo.WithPools(recordsOnly{b.memory}), kgo.WithDecompressor(b)}
}

// recordsOnly keeps the client from clearing and giving back what it takes for unpacked batches: these are
// placeholders.
type recordsOnly struct{ memory kgo.PoolRecords }

func (r recordsOnly) GetRecords(n int) []kgo.Record { return r.memory.GetRecords(n) }
func (r recordsOnly) PutRecords(list []kgo.Record)  { r.memory.PutRecords(list) }

// Decompress implements kgo.Decompressor.
//
// A batch that comes again is the client's to take apart. It may be one whose last records were compacted away: after
// these come offsets that belong to it, which only its head tells of, and the client, which has read its way to the
// last record, asks for the next.
func (b *bundler) Decompress(src []byte, codec kgo.CompressionCodecType) ([]byte, error) {
	out, err := b.unpacker.Decompress(src, codec)
	if err != nil || codec == kgo.CodecNone {
		return out, err
	}
	b.memory.grown(kgo.FetchBatchMetrics{CompressedBytes: len(src), UncompressedBytes: len(out), CompressionType: uint8(codec)})
	entries, ok := list(b.room(len(out)), out)
	if !ok || b.again(src) {
		b.keep(entries, len(out))
		return out, nil
	}
	bundle := b.spareOne()
	bundle.bytes, bundle.entries = out, entries
	return bundle.write(b.seal), nil
}

// spareOne is an empty bundle.
func (b *bundler) spareOne() *bundle {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := len(b.spare)
	if n == 0 {
		return new(bundle)
	}
	last := b.spare[n-1]
	b.spare = b.spare[:n-1]
	return last
}

// room is for the entries of a batch of so many bytes.
func (b *bundler) room(bytes int) []entry {
	b.mu.Lock()
	defer b.mu.Unlock()
	// Entries take no more than a batch may, even where one of nothing but small records has made density high.
	most := b.unpacker.most / int(unsafe.Sizeof(entry{}))
	return b.entries.get(min(int(b.density*float64(bytes)), most) + 1)
}

// keep takes room back that held the entries of so many bytes.
func (b *bundler) keep(list []entry, bytes int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.density = max(b.density*fade, float64(len(list))/float64(max(bytes, 1)))
	b.entries.put(list)
}

// again says whether a batch was seen before, or one very much like it.
func (b *bundler) again(src []byte) bool {
	const enough = 256
	hash := maphash.Bytes(b.seed, src[max(0, len(src)-enough):]) + uint64(len(src))
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.seen[hash]; ok {
		return true
	}
	if len(b.seen) == maxSeen {
		clear(b.seen)
	}
	b.seen[hash] = struct{}{}
	return false
}

// list appends the records of a batch to dst[:0]. It says no to those of which bundles are not made: there are two at
// least, in the order of their offsets.
func list(dst []entry, batch []byte) (_ []entry, ok bool) {
	dst = dst[:0]
	before := int32(-1)
	for at := 0; ; {
		dst = append(dst, entry{})
		e := &dst[len(dst)-1]
		if at = e.read(batch, at); at < 0 {
			dst = dst[:len(dst)-1]
			return dst, len(dst) > 1
		}
		if e.offset <= before {
			return dst, false
		}
		before = e.offset
	}
}

// write writes the placeholder.
func (b *bundle) write(seal [sealSize]byte) []byte {
	placeholder := b.placeholder[:0]
	for _, offset := range [...]int32{b.first(), b.last()} {
		var room [binary.MaxVarintLen32]byte
		number := binary.AppendVarint(room[:0], int64(offset))
		placeholder = binary.AppendVarint(placeholder, int64(len(number)+keySize+5))
		placeholder = append(append(placeholder, 0, 0), number...) // attributes, time
		placeholder = binary.AppendVarint(placeholder, keySize)
		placeholder = append(append(placeholder, byte(len(placeholder))), seal[:]...)
		placeholder = append(placeholder, 1, 0) // no value, no headers
	}
	return placeholder
}

func (b *bundle) first() int32 { return b.entries[0].offset }
func (b *bundle) last() int32  { return b.entries[len(b.entries)-1].offset }

// open returns the bundle that a record leads to, and whether it is the first of the two that do. It returns nil for a
// record that is what it looks like.
func (b *bundler) open(r *kgo.Record) (_ *bundle, head bool) {
	if len(r.Key) != keySize || [sealSize]byte(r.Key[1:]) != b.seal {
		return nil, false
	}
	// The seal says that the key is within a placeholder, and its first byte where: at the beginning of the bundle.
	at := int(r.Key[0])
	return (*bundle)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(r.Key)), -at)), at < placeholderSize
}

// recycle gives the memory of records back, and of the bundles they lead to. None of them is to be used any more.
func (b *bundler) recycle(fetches kgo.Fetches) {
	var empty []*bundle
	fetches.EachRecord(func(r *kgo.Record) {
		if bundle, _ := b.open(r); bundle != nil && bundle.bytes != nil {
			b.keep(bundle.entries, len(bundle.bytes))
			b.memory.PutDecompressBytes(bundle.bytes)
			bundle.bytes, bundle.entries = nil, nil
			empty = append(empty, bundle)
		}
		r.Recycle()
	})
	// Only now, for each has two records that lead to it.
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.spare = append(b.spare, empty...); len(b.spare) > maxSeen {
		b.spare = nil
	}
}

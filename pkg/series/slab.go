package series

// slab keeps byte strings, one after the other in chunks that neither move nor change. The memory of a removed one
// comes back only when what is left is copied into another slab.
type slab struct {
	chunks     [][]byte
	held, gone int // bytes
}

// slabText is where a byte string lies. The zero one lies nowhere.
type slabText struct {
	at   uint32 // chunk and offset, plus one
	size uint32
}

const (
	granuleShift = 2 // texts begin at multiples of 4 bytes
	offsetBits   = 14
	minChunk     = 1 << 10
	maxChunk     = 1 << (offsetBits + granuleShift) // but for longer texts, which have a chunk of their own
)

// add copies a text.
func (s *slab) add(text []byte) slabText {
	offset := s.room(len(text))
	last := len(s.chunks) - 1
	if last >= 1<<(32-offsetBits)-1 {
		panic("BUG: 16 GiB of series keys: limit active series")
	}
	s.chunks[last] = append(s.chunks[last][:offset], text...)
	s.held += len(text)
	return slabText{uint32(last)<<offsetBits | uint32(offset>>granuleShift) + 1, uint32(len(text))}
}

// room makes room for a text of n bytes in the last chunk and returns the offset where it begins.
func (s *slab) room(n int) (offset int) {
	size := minChunk
	if last := len(s.chunks) - 1; last >= 0 {
		chunk := s.chunks[last]
		offset = (len(chunk) + 1<<granuleShift - 1) &^ (1<<granuleShift - 1)
		if offset < maxChunk && offset+n <= cap(chunk) {
			return offset
		}
		size = min(2*cap(chunk), maxChunk)
	}
	s.chunks = append(s.chunks, make([]byte, 0, max(size, n)))
	return 0
}

func (s *slab) text(t slabText) []byte {
	if t.at == 0 {
		return nil
	}
	at := t.at - 1
	chunk, from := s.chunks[at>>offsetBits], at&(1<<offsetBits-1)<<granuleShift
	return chunk[from : from+t.size : from+t.size]
}

// touch reads the ends of a text.
func (s *slab) touch(t slabText) uint64 {
	text := s.text(t)
	if len(text) == 0 {
		return 0
	}
	return uint64(text[0]) + uint64(text[len(text)-1])
}

func (s *slab) remove(t slabText) {
	s.held -= int(t.size)
	s.gone += int(t.size)
}

// wasteful says that it is worth its time to copy what is held.
func (s *slab) wasteful() bool { return s.gone > s.held+maxChunk }

package events

import (
	"encoding/binary"
	"math"
	"slices"
	"strings"

	"github.com/vigie-io/vigie/pkg/series"
)

// Producers write the same fields in the same order, event after event. A memo is a key that was seen, and leads to
// keys that followed it. Where the next bytes are one of these, they need not be scanned; and where all labels of an
// event are remembered, they are sorted by their ranks, without a look at their names, whatever order they came in.
//
// It is a cache only: forgetting any part of it changes no result.
type memo struct {
	words *vocabulary
	token string // "name": as it stands in the record, quotes and colon included
	key   string
	rank  uint32 // the number of keys of the vocabulary that are before it in byte order
	next  []branch
	lost  uint8 // keys not found here since the last that was learnt
}

// branch leads to a key that followed. What tells it from the others lies beside theirs, so that it need not be waited
// for one by one.
type branch struct {
	head uint64 // the first eight bytes of the token, as one little-endian word
	mask uint64 // of head, the bytes the token has
	to   *memo
}

// Bounds of the memory of memos, and of the time lost where they do not help.
const (
	memoFan  = 8    // keys remembered after one
	memoKey  = 64   // bytes of a key
	memoKeys = 1024 // keys of a vocabulary, which then begins anew
	memoSeen = 3    // misses at a key that make it learn what follows: keys that do not come again are not worth a place
	memoLost = 64   // the same where all places are taken, and the key takes another's
)

// Keys are the keys of JSON objects that were decoded, which need not be scanned when they come again. It is a cache:
// forgetting any of it changes no result. The zero Keys knows none. Not safe for concurrent use.
type Keys struct{ fields, labels vocabulary } // of event objects, and of label objects

// Share lets b learn keys together with other batches, which saves learning them for each and leaves room in the nearest
// cache. One goroutine at a time decodes into any of them.
func (b *Batch) Share(keys *Keys) { b.scratch.scan.keys = keys }

// vocabulary is the keys of objects of one kind.
type vocabulary struct {
	begin   memo // no key, and before the first
	sorted  []*memo
	version uint32 // another one whenever ranks have changed
}

// start is where an object begins.
func (v *vocabulary) start() *memo {
	v.begin.words = v
	return &v.begin
}

// find returns the remembered key that stands at the beginning of b, which has at least pad bytes.
func (m *memo) find(b []byte) *memo {
	word := binary.LittleEndian.Uint64(b)
	for i := range m.next {
		br := &m.next[i]
		if word&br.mask != br.head {
			continue
		}
		if n := br.to; br.mask != math.MaxUint64 || len(n.token) <= len(b) && string(b[8:len(n.token)]) == n.token[8:] {
			return n
		}
	}
	return nil
}

// follow returns the key of which token is the spelling and that followed m, nil when it is not remembered. Now and
// then it is from then on.
func (m *memo) follow(token []byte) *memo {
	if len(token) > memoKey {
		return nil
	}
	v := m.words
	at, known := v.search(view(token[1 : len(token)-2]))
	full, enough := len(m.next) >= memoFan, uint8(memoSeen)
	if full {
		enough = memoLost
	}
	if m.lost++; m.lost < enough {
		if known {
			return v.sorted[at]
		}
		return nil
	}
	m.lost = 0
	if !known && !v.add(at, string(token)) {
		return nil
	}
	n := v.sorted[at]
	var head [8]byte
	size := copy(head[:], n.token)
	br := branch{binary.LittleEndian.Uint64(head[:]), math.MaxUint64 >> (64 - 8*size), n}
	if full {
		m.next[memoFan-1] = br
	} else {
		m.next = append(m.next, br)
	}
	return n
}

func (v *vocabulary) search(key string) (at int, known bool) {
	return slices.BinarySearchFunc(v.sorted, key, func(n *memo, key string) int { return strings.Compare(n.key, key) })
}

// add remembers the key that token spells, whose place is at, or else forgets all.
func (v *vocabulary) add(at int, token string) bool {
	v.version++
	if len(v.sorted) == memoKeys {
		*v = vocabulary{version: v.version}
		return false
	}
	v.sorted = slices.Insert(v.sorted, at, &memo{words: v, token: token, key: token[1 : len(token)-2]})
	for i, n := range v.sorted[at:] {
		n.rank = uint32(at + i)
	}
	return true
}

// rank is a label's place in the order of labels, noRank when its name is not remembered.
func (m *memo) rankOf() uint32 {
	if m == nil {
		return noRank
	}
	return m.rank
}

const noRank = math.MaxUint32

// byRank sorts labels by their ranks, if all have one and no two the same; otherwise it leaves them in any order.
func (s *scanner) byRank(labels []series.Label) bool {
	ranks := s.ranks
	if !slices.IsSorted(ranks) {
		for i := range ranks {
			ranks[i] = ranks[i]<<32 | uint64(i)
		}
		slices.Sort(ranks)
		s.given = append(s.given[:0], labels...)
		for i := range ranks {
			labels[i] = s.given[uint32(ranks[i])]
			ranks[i] >>= 32
		}
	}
	for i := 1; i < len(ranks); i++ {
		if ranks[i-1] == ranks[i] {
			return false
		}
	}
	return ranks[len(ranks)-1] != noRank
}

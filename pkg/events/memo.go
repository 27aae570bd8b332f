package events

import (
	"encoding/binary"
	"math"

	"github.com/vigie-io/vigie/pkg/series"
)

// Producers write the same fields in the same order, event after event. A memo is a tree of the key
// sequences seen: from one key to those that followed it. Where the next bytes are a remembered key, they
// need not be scanned; and where all labels of an event are, their order is known too.
//
// It is a cache only: forgetting any part of it changes no result.
type memo struct {
	token string // "name": as it stands in the record, quotes and colon included
	key   string
	next  []branch
	lost  uint8 // keys not found here since the last that was learnt

	order []uint8 // at the last label: sorted[i] is label order[i]; nil when not known
}

// branch leads to a key that followed. What tells it from the others lies beside theirs, so that it need not be waited for one by one.
type branch struct {
	head uint64 // the first eight bytes of the token, as one little-endian word
	mask uint64 // of head, the bytes the token has
	to   *memo
}

// Bounds of the memory of a memo, and of the time lost where it does not help.
const (
	memoFan   = 8    // keys remembered after one
	memoKey   = 64   // bytes of a key
	memoNodes = 4096 // nodes of a tree
	memoSeen  = 3    // misses at a node that make it learn a key: sequences that do not come again are not worth a node
	memoLost  = 64   // the same at a full node, where the key takes another's place
)

// memos are the trees of a batch: of event objects, and of label objects.
type memos struct {
	fields, labels memo
	nodes          int
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

// learn remembers that token, the spelling of a key, may follow m. It returns nil when it does not.
func (t *memos) learn(m *memo, token []byte) *memo {
	if len(token) > memoKey {
		return nil
	}
	full, enough := len(m.next) >= memoFan, uint8(memoSeen)
	if full {
		enough = memoLost
	}
	if m.lost++; m.lost < enough {
		return nil
	}
	m.lost = 0
	if t.nodes++; t.nodes > memoNodes {
		*t = memos{}
		return nil
	}
	spelling := string(token)
	var head [8]byte
	size := copy(head[:], spelling)
	n := &memo{token: spelling, key: spelling[1 : len(spelling)-2]}
	br := branch{binary.LittleEndian.Uint64(head[:]), math.MaxUint64 >> (64 - 8*size), n}
	if full {
		m.next[memoFan-1] = br
	} else {
		m.next = append(m.next, br)
	}
	return n
}

// sort orders labels that came in the sequence ending at m, whose order is known. None of them is empty.
func (m *memo) sort(labels []series.Label) series.Labels {
	var given [maxOrdered]series.Label
	n := copy(given[:], labels)
	for i, from := range m.order {
		labels[i] = given[from]
	}
	return labels[:n:n]
}

// maxOrdered is how many labels a remembered order may have.
const maxOrdered = 16

// remember notes how sorted came from given, the names before sorting.
func (m *memo) remember(given []series.Label, sorted series.Labels) {
	order := make([]uint8, len(sorted))
	for i, l := range sorted {
		for j := range given {
			if given[j].Name == l.Name {
				order[i] = uint8(j)
			}
		}
	}
	m.order = order
}

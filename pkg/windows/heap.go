package windows

import "container/heap"

// turn is when something is next to be done of a key, and where the key is in its heap.
type turn struct {
	next int64 // the least watermark at which something is to be done
	at   int
}

func (t *turn) when() *turn { return t }

// keyHeap has the key with the least next first.
type keyHeap[K interface{ when() *turn }] []K

func (h keyHeap[K]) Len() int { return len(h) }

func (h keyHeap[K]) Less(i, j int) bool { return h[i].when().next < h[j].when().next }

func (h keyHeap[K]) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].when().at, h[j].when().at = i, j
}

// Push implements heap.Interface.
func (h *keyHeap[K]) Push(x any) {
	k := x.(K)
	k.when().at = len(*h)
	*h = append(*h, k)
}

// Pop implements heap.Interface.
func (h *keyHeap[K]) Pop() any {
	old := *h
	k := old[len(old)-1]
	clear(old[len(old)-1:])
	*h = old[:len(old)-1]
	return k
}

// set gives a key of the heap another turn.
func (h *keyHeap[K]) set(k K, next int64) {
	if t := k.when(); t.next != next {
		t.next = next
		heap.Fix(h, t.at)
	}
}

// reached lists the keys of which something is to be done at the watermark. They stay in the heap.
func (h keyHeap[K]) reached(watermark int64) []K {
	var found []K
	var visit func(i int)
	visit = func(i int) {
		if i >= len(h) || h[i].when().next > watermark {
			return
		}
		found = append(found, h[i])
		visit(2*i + 1)
		visit(2*i + 2)
	}
	visit(0)
	return found
}

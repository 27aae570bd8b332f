package pipeline

import (
	"cmp"
	"slices"
)

// open returns the cell of the pane that begins at start, and marks the series as changed. before is the start of the
// newest pane that the series had an event in.
func (t *Task) open(tn *tenant, ref uint32, e *entry, start, before uint32) *cell {
	c, next := &e.cell, uint32(0)
	switch {
	case c.form == unused:
		t.mark(tn, ref, e)
	case c.start == start || start <= before && t.recall(e, start):
		return c
	default:
		next = t.putAside(e)
	}
	c.begin(start, tn.class(e).group.kind)
	c.next = next
	t.epoch.panes++
	return c
}

// putAside makes room in place for another pane of the series, and returns the number of the cell that has the
// contents.
func (t *Task) putAside(e *entry) (number uint32) {
	number, other := t.cells.add()
	*other = e.cell
	if all := t.scattered[e]; all != nil {
		all[other.start] = number
	}
	return number
}

// maxWalk is how many cells of a series are looked at one after the other.
const maxWalk = 16

// recall lets the series' pane that begins at start change places with the one that is in place, and says false when
// there is none.
func (t *Task) recall(e *entry, start uint32) bool {
	all := t.scattered[e]
	number := e.cell.next
	for steps := 0; all == nil && number != 0 && t.cells.at(number).start != start; steps++ {
		if number = t.cells.at(number).next; steps == maxWalk {
			all = t.scatter(e)
		}
	}
	if all != nil {
		if number = all[start]; number != 0 {
			delete(all, start)
			all[e.cell.start] = number
		}
	}
	if number == 0 {
		return false
	}
	other := t.cells.at(number)
	e.cell, *other = *other, e.cell
	e.cell.next, other.next = other.next, e.cell.next // it is contents that move
	return true
}

// scatter lets the many cells of a series be found by their start.
func (t *Task) scatter(e *entry) map[uint32]uint32 {
	all := make(map[uint32]uint32)
	for number := e.cell.next; number != 0; number = t.cells.at(number).next {
		all[t.cells.at(number).start] = number
	}
	if t.scattered == nil {
		t.scattered = make(map[*entry]map[uint32]uint32)
	}
	t.scattered[e] = all
	return all
}

// eachCell calls fn for the cells of a series, ascending in start.
func (t *Task) eachCell(e *entry, fn func(*cell)) {
	if e.cell.next == 0 {
		fn(&e.cell)
		return
	}
	list := append(t.ordered[:0], &e.cell)
	for number := e.cell.next; number != 0; number = t.cells.at(number).next {
		list = append(list, t.cells.at(number))
	}
	slices.SortFunc(list, func(a, b *cell) int { return cmp.Compare(a.start, b.start) })
	for _, c := range list {
		fn(c)
	}
	t.ordered = list[:0]
}

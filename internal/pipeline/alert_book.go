package pipeline

import (
	"slices"
	"strings"
)

type bookName struct {
	rule   uint64
	tenant string
}

// alertTenant are the books of a tenant, one for each rule.
type alertTenant struct {
	books []*alertBook
	next  int64 // least event time at which one has to judge, Unix ns
}

// alertBook is what a rule keeps of a tenant.
type alertBook struct {
	bookName
	of   *alertRule   // nil: configuration no longer has it
	who  *alertTenant // nil until it is heard of
	step int64        // judged last. While there are no keys it follows the tenant's clock, and is not kept
	keys map[string]*alertKey
	size int // slices

	stepLogged bool
	forgotten  map[string]*alertKey // since the last committed epoch, with something in the log
	touched    []*alertKey
	marked     bool // in alerts.touched
	noted      bool // step, in undo
}

func (a *alerts) tenant(name string) *alertTenant {
	at := a.tenants[name]
	if at == nil {
		at = &alertTenant{}
		a.tenants[strings.Clone(name)] = at
		for _, r := range a.rules {
			b := a.book(bookName{r.id, strings.Clone(name)})
			b.who = at
			at.books = append(at.books, b)
		}
	}
	return at
}

// rest forgets a tenant that has not been heard of and of whom nothing is kept.
func (a *alerts) rest(tenant string) {
	at := a.tenants[tenant]
	if at == nil || slices.ContainsFunc(at.books, func(b *alertBook) bool { return len(b.keys) > 0 || b.stepLogged || b.marked }) {
		return
	}
	delete(a.tenants, tenant)
	for _, b := range at.books {
		delete(a.books, b.bookName)
	}
}

// book finds a book, or makes it.
func (a *alerts) book(name bookName) *alertBook {
	b := a.books[name]
	if b == nil {
		b = &alertBook{bookName: name, keys: map[string]*alertKey{}, forgotten: map[string]*alertKey{}}
		if i := slices.IndexFunc(a.rules, func(r *alertRule) bool { return r.id == name.rule }); i >= 0 {
			b.of = a.rules[i]
		}
		a.books[name] = b
	}
	return b
}

// follow moves the step of a book without keys to the tenant's clock.
func (b *alertBook) follow(clock int64) {
	if len(b.keys) == 0 {
		b.step = clock / b.of.every
	}
}

// expect notes when the book has to judge next.
func (b *alertBook) expect() {
	if len(b.keys) > 0 {
		b.who.next = min(b.who.next, (b.step+1)*b.of.every)
	}
}

func (b *alertBook) named(key string) *alertKey {
	k := b.keys[key]
	if k == nil {
		k = &alertKey{name: key}
		b.keys[key] = k
	}
	return k
}

// place puts a slice, or nil, into a slot of a key. A rule that is not configured keeps no slices, only that the log does.
func (b *alertBook) place(key string, slot int64, s *alertSlice) {
	k := b.named(key)
	if b.of == nil {
		return
	}
	before := len(k.slices)
	k.slices = slices.DeleteFunc(k.slices, func(old *alertSlice) bool { return old.index%b.of.ring == slot })
	if s != nil {
		pos, _ := k.at(s.index)
		k.slices = slices.Insert(k.slices, pos, s)
	}
	b.size += len(k.slices) - before
}

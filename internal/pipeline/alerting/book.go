package alerting

import (
	"slices"
	"strings"
)

type bookName struct {
	rule   uint64
	tenant string
}

// Tenant are the books of a tenant, one for each rule, in their order.
type Tenant struct {
	books []*book
	next  int64 // least event time at which one has to judge, Unix ns
}

// book is what a rule keeps of a tenant.
type book struct {
	bookName
	of   *Rule   // nil: configuration no longer has it
	who  *Tenant // nil until it is heard of
	step int64   // judged last. While there are no keys it follows the tenant's clock, and is not kept
	keys map[string]*instance
	size int // slices

	stepLogged bool
	forgotten  map[string]*instance // since the last committed epoch, with something in the log
	touched    []*instance
	marked     bool // in alerts.touched
	noted      bool // step, in undo
}

// Tenant returns what is kept of a tenant, and makes it when there is none. It is valid until Rest drops the tenant.
func (a *Alerts) Tenant(name string) *Tenant {
	at := a.tenants[name]
	if at == nil {
		at = &Tenant{}
		a.tenants[strings.Clone(name)] = at
		for _, r := range a.Rules {
			b := a.book(bookName{r.id, strings.Clone(name)})
			b.who = at
			at.books = append(at.books, b)
		}
	}
	return at
}

// Rest forgets a tenant that has not been heard of and of whom nothing is kept.
func (a *Alerts) Rest(tenant string) {
	at := a.tenants[tenant]
	if at == nil || slices.ContainsFunc(at.books, func(b *book) bool { return len(b.keys) > 0 || b.stepLogged || b.marked }) {
		return
	}
	delete(a.tenants, tenant)
	for _, b := range at.books {
		delete(a.books, b.bookName)
	}
}

// book finds a book, or makes it.
func (a *Alerts) book(name bookName) *book {
	b := a.books[name]
	if b == nil {
		b = &book{bookName: name, keys: map[string]*instance{}, forgotten: map[string]*instance{}}
		if i := slices.IndexFunc(a.Rules, func(r *Rule) bool { return r.id == name.rule }); i >= 0 {
			b.of = a.Rules[i]
		}
		a.books[name] = b
	}
	return b
}

// follow moves the step of a book without keys to the tenant's clock.
func (b *book) follow(clock int64) {
	if len(b.keys) == 0 {
		b.step = clock / b.of.every
	}
}

// expect notes when the book has to judge next.
func (b *book) expect() {
	if len(b.keys) > 0 {
		b.who.next = min(b.who.next, (b.step+1)*b.of.every)
	}
}

func (b *book) named(key string) *instance {
	k := b.keys[key]
	if k == nil {
		k = &instance{name: key}
		b.keys[key] = k
	}
	return k
}

// place puts a slice, or nil, into a slot of a key. A rule that is not configured keeps no slices, only that the log
// does.
func (b *book) place(key string, slot int64, s *slice) {
	k := b.named(key)
	if b.of == nil {
		return
	}
	before := len(k.slices)
	k.slices = slices.DeleteFunc(k.slices, func(old *slice) bool { return old.index%b.of.ring == slot })
	if s != nil {
		pos, _ := k.at(s.index)
		k.slices = slices.Insert(k.slices, pos, s)
	}
	b.size += len(k.slices) - before
}

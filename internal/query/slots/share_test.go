package slots_test

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vigie-io/vigie/internal/query/slots"
	"github.com/vigie-io/vigie/internal/tenants"
)

// asker has clients of tenants that ask one query after the other, each about so long. No two end at the same instant, at
// which a tenant of many would hold one place, or none.
type asker struct {
	t     *testing.T
	slots *slots.Slots
	stop  chan struct{}
}

func (a *asker) ask(tenant tenants.ID, clients int, takes, pause time.Duration) {
	for range clients {
		go func() {
			for {
				select {
				case <-a.stop:
					return
				default:
				}
				a.one(tenant, takes+rand.N(takes/10))
				time.Sleep(pause)
			}
		}()
	}
}

// one asks once, and tells whether the query gives way.
func (a *asker) one(tenant tenants.ID, takes time.Duration) bool {
	place, err := a.slots.Acquire(a.t.Context(), tenant)
	if err != nil {
		a.t.Error(err)
		return false
	}
	defer place.Release()
	time.Sleep(takes)
	return slots.GivesWay(place.Context(a.t.Context()))
}

func TestWhoGivesWay(t *testing.T) {
	f := func(name string, others func(a *asker), tenant tenants.ID, want bool) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := &asker{t, slots.New(func(tenants.ID) (int, int) { return 4, 100 }), make(chan struct{})}
				others(a)
				time.Sleep(time.Minute)
				before := a.slots.Behind()
				for range 5 {
					if got := a.one(tenant, 100*time.Millisecond); got != want {
						t.Errorf("a query of %s gives way: got %t, want %t", tenant, got, want)
					}
				}
				if counted := a.slots.Behind() > before; want && !counted {
					t.Error("what gives way is not counted")
				}
				close(a.stop)
				time.Sleep(time.Minute)
			})
		})
	}
	const short, long = 50 * time.Millisecond, 3 * time.Second
	f("nobody else is there", func(a *asker) { a.ask("heavy", 50, long, 0) }, "heavy", false)
	f("beside a dashboard that is loaded anew every 5 s", func(a *asker) {
		a.ask("heavy", 50, long, 0)
		a.ask("light", 1, short, 5*time.Second)
	}, "heavy", true)
	f("that dashboard", func(a *asker) {
		a.ask("heavy", 50, long, 0)
		a.ask("light", 1, short, 5*time.Second)
	}, "light", false)
	f("one query after the other", func(a *asker) {
		a.ask("heavy", 50, long, 0)
		a.ask("light", 1, long, 0)
	}, "light", false)
	f("beside one query after the other", func(a *asker) {
		a.ask("heavy", 50, long, 0)
		a.ask("light", 1, long, 0)
	}, "heavy", true)
	f("beside somebody who asks as much", func(a *asker) {
		a.ask("heavy", 50, long, 0)
		a.ask("too", 50, long, 0)
	}, "heavy", false)
	f("both, beside a third", func(a *asker) {
		a.ask("heavy", 50, long, 0)
		a.ask("too", 50, long, 0)
		a.ask("light", 1, short, time.Second)
	}, "too", true)
	f("one client alone is never too much", func(a *asker) {
		a.ask("one", 1, long, 0)
		a.ask("light", 1, short, 5*time.Second)
	}, "light", false)
	f("the other has gone", func(a *asker) {
		a.ask("heavy", 50, long, 0)
		a.one("light", long)
	}, "heavy", false)
	f("who comes for the first time", func(a *asker) { a.ask("heavy", 50, long, 0) }, "new", false)
}

// Of many queries that begin at once the first runs as before, and the others give way, where others asked lately.
func TestManyAtOnceGiveWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &asker{t, slots.New(func(tenants.ID) (int, int) { return 4, 0 }), make(chan struct{})}
		many := func() (gave int) {
			for i := range 4 {
				place, err := a.slots.Acquire(t.Context(), "heavy")
				if err != nil {
					t.Fatal(err)
				}
				defer place.Release()
				gives := slots.GivesWay(place.Context(t.Context()))
				if gives && i == 0 {
					t.Error("the only query of a tenant gives way")
				}
				if gives {
					gave++
				}
			}
			return gave
		}
		if gave := many(); gave > 0 {
			t.Errorf("got %d that give way to nobody, want none", gave)
		}
		time.Sleep(time.Minute)
		a.one("light", 10*time.Millisecond)
		time.Sleep(20 * time.Second)
		if gave := many(); gave != 3 {
			t.Errorf("got %d that give way, want all but the first", gave)
		}
	})
}

package simulation

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// moment is when a process has something happen to it. The zero value is none.
type moment struct {
	name    string   // before, after, or one of its own
	request kmsg.Key // of before and after
}

// moment takes one that a process comes to.
func (s *statement) moment(process string) (m moment) {
	moments := []string{"before", "after", momentPolled, momentCommitting, momentCommitted}
	if process != "" && process[0] == 's' {
		moments = []string{"before", "after", momentInserting, momentInserted, momentMerging, momentMerged}
	}
	if m.name = s.oneOf("moment", moments...); m.ofRequest() {
		m.request = s.request()
	}
	return m
}

func (m moment) ofRequest() bool { return m.name == "before" || m.name == "after" }

// String is the moment as it ends a statement.
func (m moment) String() string {
	switch {
	case m.name == "":
		return ""
	case m.ofRequest():
		return " at " + m.name + " " + m.request.Name()
	}
	return " at " + m.name
}

// meet has do be called when the process comes to a moment, once, and keeps it there for as long.
func (p *process) meet(m moment, stay time.Duration, do func()) {
	if m.ofRequest() {
		p.wire.add(&hook{key: int16(m.request), after: m.name == "after", left: 1, do: do, delay: stay})
		return
	}
	p.trap(m.name, func() {
		do()
		time.Sleep(stay)
	})
}

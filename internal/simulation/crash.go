package simulation

import (
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// crashWithin bounds how long a crash waits for its moment.
const crashWithin = 30 * time.Second

// crashStep ends a process without a goodbye, now or at a moment.
type crashStep struct {
	process string
	moment  string // "" is now
	request kmsg.Key
	elseNow bool // when the moment does not come
}

func parseCrash(s *statement) Step {
	c := crashStep{process: s.process()}
	if !s.next("at") {
		return c
	}
	moments := []string{"before", "after", momentPolled, momentCommitting, momentCommitted}
	if strings.HasPrefix(c.process, "sink") {
		moments = []string{"before", "after", momentInserting, momentInserted}
	}
	c.moment = s.oneOf("moment", moments...)
	if c.moment == "before" || c.moment == "after" {
		c.request = s.request()
	}
	if s.next("else") {
		c.elseNow = s.oneOf("what else", "now") == "now"
	}
	return c
}

func (c crashStep) String() string {
	text := "crash " + c.process
	if c.moment == "" {
		return text
	}
	text += " at " + c.at()
	if c.elseNow {
		text += " else now"
	}
	return text
}

// at is the moment as a scenario names it.
func (c crashStep) at() string {
	if c.moment == "before" || c.moment == "after" {
		return c.moment + " " + c.request.Name()
	}
	return c.moment
}

func (c crashStep) run(w *World) error {
	p := w.processes[c.process]
	if p == nil {
		if c.elseNow || c.moment == "" {
			return nil
		}
		return fmt.Errorf("%s is down", c.process)
	}
	if c.moment == "" {
		w.hits.add(crashKind(p.role(), c.moment), 1)
		w.kill(c.process)
		return nil
	}
	crashed := make(chan struct{}, 1)
	crash := func() {
		// In the process itself, so that it does nothing more.
		p.wire.cut()
		p.stop()
		select {
		case crashed <- struct{}{}:
		default:
		}
	}
	switch c.moment {
	case "before", "after":
		p.wire.add(&hook{key: int16(c.request), after: c.moment == "after", left: 1, do: crash})
	default:
		p.trap(c.moment, crash)
	}
	select {
	case <-crashed:
		w.hits.add(crashKind(p.role(), c.moment), 1)
	case <-time.After(crashWithin):
		if !c.elseNow {
			return fmt.Errorf("%s did not come to that moment within %s", c.process, crashWithin)
		}
	}
	w.kill(c.process)
	return nil
}

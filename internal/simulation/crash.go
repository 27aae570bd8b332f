package simulation

import (
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// crashWithin bounds how long a crash waits for its moment.
const crashWithin = 30 * time.Second

// crashStep ends a process without a goodbye, now or at a moment.
type crashStep struct {
	process string
	at      moment // "" is now
	elseNow bool   // when the moment does not come
}

func parseCrash(s *statement) Step {
	c := crashStep{process: s.process()}
	if !s.next("at") {
		return c
	}
	c.at = s.moment(c.process)
	if s.next("else") {
		c.elseNow = s.oneOf("what else", "now") == "now"
	}
	return c
}

func (c crashStep) String() string {
	text := "crash " + c.process + c.at.String()
	if c.elseNow {
		text += " else now"
	}
	return text
}

func (c crashStep) run(w *World) error {
	p := w.processes[c.process]
	if p == nil {
		if c.elseNow || c.at.name == "" {
			return nil
		}
		return fmt.Errorf("%s is down", c.process)
	}
	if c.at.name == "" {
		w.hits.add(crashKind(p.role(), ""), 1)
		w.kill(c.process)
		return nil
	}
	crashed := make(chan struct{}, 1)
	p.meet(c.at, 0, func() {
		// In the process itself, so that it does nothing more.
		p.wire.cut()
		p.stop()
		select {
		case crashed <- struct{}{}:
		default:
		}
	})
	select {
	case <-crashed:
		w.hits.add(crashKind(p.role(), c.at.name), 1)
		if p.role() == "sink" && c.at.ofRequest() && c.at.request == kmsg.EndTxn {
			w.hits.add(mergerKind(c.at.name), 1)
		}
	case <-time.After(crashWithin):
		if !c.elseNow {
			return fmt.Errorf("%s did not come to that moment within %s", c.process, crashWithin)
		}
	}
	w.kill(c.process)
	return nil
}

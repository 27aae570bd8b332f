package simulation

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// networkFault is something between a process and the brokers.
type networkFault struct {
	process string
	what    string // cut, lose, delay, hold, silence
	request kmsg.Key
	by      time.Duration
	times   int
	at      moment // of silence; "" is now
}

func parseNetworkFault(s *statement) Step {
	f := networkFault{process: s.process(), what: s.oneOf("what", "cut", "lose", "delay", "hold", "silence")}
	if f.what != "silence" {
		f.request = s.request()
	}
	if f.timed() {
		f.by = s.duration("how long")
	}
	if f.what != "silence" {
		f.times = s.numberField("times", 1, 1, 1000)
	} else if s.next("at") {
		f.at = s.moment(f.process)
	}
	return f
}

// timed says whether the fault has a duration.
func (f networkFault) timed() bool {
	return f.what == "delay" || f.what == "hold" || f.what == "silence"
}

func (f networkFault) String() string {
	text := "fault network " + f.process + " " + f.what
	if f.what != "silence" {
		text += " " + f.request.Name()
	}
	if f.timed() {
		text += " " + f.by.String()
	}
	if f.what == "silence" {
		return text + f.at.String()
	}
	return text + add(nil, "times", f.times, 1).String()
}

func (f networkFault) run(w *World) error {
	p := w.processes[f.process]
	if p == nil {
		return nil
	}
	if f.what == "silence" {
		f.silence(w, p)
		return nil
	}
	h := &hook{key: int16(f.request), left: f.times, do: func() { w.hits.add("network "+f.what, 1) }}
	switch f.what {
	case "cut":
		h.cut = true
	case "lose":
		h.cut, h.after = true, true
	case "delay":
		h.delay = f.by
	case "hold":
		h.delay, h.after = f.by, true
	}
	p.wire.add(h)
	return nil
}

// silence begins now, or when the process comes to the moment, which it is then held at for as long: it is frozen.
func (f networkFault) silence(w *World, p *process) {
	silence := func() { p.wire.silence(f.by) }
	if f.at.name == "" {
		w.hits.add("network silence", 1)
		silence()
		return
	}
	p.meet(f.at, f.by, func() {
		w.hits.add("network silence at a moment", 1)
		silence()
	})
}

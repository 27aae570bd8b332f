package simulation

import (
	"context"
	"strconv"
	"sync"
)

// instance is the name of a process for Kafka: "w1".
func instance(process string) string { return process[:1] + process[len(process)-1:] }

func workerName(n int) string { return "worker " + strconv.Itoa(n) }

func sinkName(n int) string { return "sink " + strconv.Itoa(n) }

// process is one run of a worker or a sink.
type process struct {
	name  string
	wire  *wire
	rules int // the set of declared rollups that it has
	// earlier says that it is of the version before there were mergers.
	earlier bool
	behind  int // Shape.Behind
	epochs  int // with messages, that a worker has begun to commit
	stop    context.CancelFunc
	done    chan struct{}

	mu    sync.Mutex
	traps map[string]func() // by moment
}

// role is worker or sink.
func (p *process) role() string { return p.name[:len(p.name)-2] }

// trap arranges for do to be called at a moment that is no request.
func (p *process) trap(moment string, do func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.traps[moment] = do
}

// reach calls what was arranged for a moment.
func (p *process) reach(moment string) {
	p.mu.Lock()
	do := p.traps[moment]
	delete(p.traps, moment)
	p.mu.Unlock()
	if do != nil {
		do()
	}
}

// launch starts a process that does not run.
func (w *World) launch(name string) {
	ctx, stop := context.WithCancel(context.Background())
	p := &process{name: name, wire: newWire(w.network.DialContext), rules: w.Recount.windows.set, earlier: w.earlier,
		behind: w.shape.Behind, stop: stop, done: make(chan struct{}), traps: map[string]func(){}}
	cfg := w.cfg
	cfg.Dial = p.wire.DialContext
	cfg.Instance = instance(name)
	w.processes[name] = p
	delete(w.gone, name)
	run := w.worker
	if name[0] == 's' {
		run = w.sink
	}
	go func() {
		defer close(p.done)
		run(ctx, cfg, p)
	}()
}

// kill ends a process without a goodbye: what it does from now on reaches nobody.
func (w *World) kill(name string) {
	p := w.processes[name]
	if p == nil {
		return
	}
	delete(w.processes, name)
	p.wire.cut()
	p.stop()
	w.abandoned.Go(func() { <-p.done })
}

// stop ends a process in order, and waits for it.
func (w *World) stop(name string) {
	p := w.processes[name]
	if p == nil {
		return
	}
	p.stop()
	<-p.done
	delete(w.processes, name)
	if p.role() == "worker" {
		w.gone[name] = true
	}
}

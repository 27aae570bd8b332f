package query

import (
	"os"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// cost is what something took: processor time of this process and the server together, and time.
type cost struct {
	CPU, Wall time.Duration
}

// cost measures f. Garbage of before is collected first.
func (d *database) cost(f func()) cost {
	d.t.Helper()
	runtime.GC()
	before := d.cpu()
	begin := time.Now()
	f()
	return cost{CPU: d.cpu() - before, Wall: time.Since(begin)}
}

func (d *database) cpu() time.Duration { return cpuOf(d.t, os.Getpid()) + cpuOf(d.t, d.Pid()) }

// cpuOf is the processor time of all threads of a process so far, those that ended too.
func cpuOf(t testing.TB, pid int) time.Duration {
	t.Helper()
	var spent unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|2), &spent); err != nil { // MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED)
		t.Fatalf("ask for the processor time of process %d: %v", pid, err)
	}
	return time.Duration(spent.Nano())
}

// memory is what is held at most while f runs, bytes above what was held before in this process, and by one statement
// on the server.
func (d *database) memory(f func()) (here, there uint64) {
	d.t.Helper()
	runtime.GC()
	before := heap()
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			case <-time.After(2 * time.Millisecond):
			}
			here = max(here, heap())
		}
	}()
	statements := make(chan struct{})
	go func() {
		defer close(statements)
		for {
			select {
			case <-done:
				return
			case <-time.After(5 * time.Millisecond):
			}
			answer := d.ask("SELECT max(peak_memory_usage) FROM system.processes WHERE query NOT LIKE '%system.processes%'")
			if n, err := strconv.ParseUint(strings.TrimSpace(answer), 10, 64); err == nil {
				there = max(there, n)
			}
		}
	}()
	f()
	close(done)
	<-ended
	<-statements
	return here - min(here, before), there
}

func heap() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

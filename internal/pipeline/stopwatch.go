package pipeline

import (
	"runtime"
	"time"
)

// stage is a part of a worker's work that is measured on its own.
type stage int

const (
	stagePoll stage = iota
	stageDecode
	stageAccumulate
	stageDrain
	stageEncode
	stageCommit
	stages
)

var stageNames = [stages]string{"poll", "decode", "accumulate", "drain", "encode", "commit"}

// stopwatch adds up the time of stages, by the clock and by the processor time of the thread. Between start and stop
// the goroutine keeps its thread, or else that time would be another's. A nil stopwatch measures nothing.
type stopwatch struct {
	now       func() time.Time
	wall, cpu [stages]time.Duration
	lastWall  time.Time
	lastCPU   time.Duration
	sides     [2]time.Duration // of splits, processor time
}

// split is the measurement of work that alternates between two stages. The zero split measures nothing.
type split struct {
	watch *stopwatch
	at    time.Duration
}

// split begins one, when it is wanted.
func (s *stopwatch) split(wanted bool) split {
	if s == nil || !wanted {
		return split{}
	}
	return split{s, threadCPU()}
}

// half ends the first stage and begins the second.
func (s *split) half() { s.to(0) }

// end ends the second stage.
func (s *split) end() { s.to(1) }

func (s *split) to(side int) {
	if s.watch != nil {
		now := threadCPU()
		s.watch.sides[side] += now - s.at
		s.at = now
	}
}

// lapSplit gives the time since the last call to two stages, in the proportion that splits have found since then.
func (s *stopwatch) lapSplit(first, second stage) {
	if s == nil {
		return
	}
	wall, cpu := s.wall[second], s.cpu[second]
	s.lap(second)
	if all := s.sides[0] + s.sides[1]; all > 0 {
		share := float64(s.sides[0]) / float64(all)
		move := func(of *[stages]time.Duration, before time.Duration) {
			part := time.Duration(float64(of[second]-before) * share)
			of[first] += part
			of[second] -= part
		}
		move(&s.wall, wall)
		move(&s.cpu, cpu)
	}
	s.sides = [2]time.Duration{}
}

func (s *stopwatch) start() {
	runtime.LockOSThread()
	s.lastWall, s.lastCPU = s.now(), threadCPU()
}

// lap gives the time since the last call to a stage.
func (s *stopwatch) lap(of stage) {
	if s == nil {
		return
	}
	wall, cpu := s.now(), threadCPU()
	s.wall[of] += wall.Sub(s.lastWall)
	s.cpu[of] += cpu - s.lastCPU
	s.lastWall, s.lastCPU = wall, cpu
}

func (s *stopwatch) stop() { runtime.UnlockOSThread() }

// waited adds time in which the goroutine was free to change threads, so that only the clock can tell.
func (s *stopwatch) waited(of stage, wall time.Duration) { s.wall[of] += wall }

// flush hands the sums over and starts again from zero.
func (s *stopwatch) flush(m *Metrics) {
	for i := range stages {
		m.wall[i].Add(s.wall[i].Seconds())
		m.cpu[i].Add(s.cpu[i].Seconds())
	}
	s.wall, s.cpu = [stages]time.Duration{}, [stages]time.Duration{}
}

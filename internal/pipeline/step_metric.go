package pipeline

import "github.com/vigie-io/vigie/pkg/events"

// StepMetric accumulates m as Step does the metrics it decodes, for sources that are no records: m must be what a
// Decoder would have given. It returns false, and has done nothing, when m is out of time: only a record can be
// refused. now is as for Step. It keeps nothing of m.
func (t *Task) StepMetric(m *events.Metric, now int64) bool {
	if t.now != now || t.admit.now != now {
		t.now, t.admit = now, newAdmission(&t.cfg.Config, now)
	}
	if !t.admit.admits(m.Time) {
		return false
	}
	t.tally.Records++
	t.metric(m)
	if t.declares {
		t.declareMetric(m)
	}
	return true
}

// StepIncrease gives m, which TaskConfig.Increases has got of another task, to the declared rollups and to nothing
// else. It is for metrics in the order of their times. now is as for Step. It keeps nothing of m.
func (t *Task) StepIncrease(m *events.Metric, now int64) {
	t.now = now
	t.declareMetric(m)
}

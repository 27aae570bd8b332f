package windows

import "fmt"

// LatePolicy says what becomes of an event whose window has been emitted and is still within allowed lateness.
type LatePolicy uint8

const (
	// MergeDelta emits what came late alone, for a reader that adds it up. Nothing is kept of an emitted window but the
	// number of its emissions.
	MergeDelta LatePolicy = iota
	// Recompute keeps a window's contents until lateness has passed and emits all of them again, with a higher version,
	// for a reader that replaces.
	Recompute
	// Divert leaves emitted windows as they are: the verdict hands the event to the caller.
	Divert
)

var policyNames = [...]string{"merge", "recompute", "divert"}

// String is the policy's word in configuration.
func (p LatePolicy) String() string {
	if int(p) >= len(policyNames) {
		return fmt.Sprintf("policy(%d)", uint8(p))
	}
	return policyNames[p]
}

// ParseLatePolicy reads "merge", "recompute" or "divert".
func ParseLatePolicy(s string) (LatePolicy, error) {
	for i, name := range policyNames {
		if s == name {
			return LatePolicy(i), nil
		}
	}
	return 0, fmt.Errorf("late policy %q: want merge, recompute or divert", s)
}

// Verdict is what became of one event.
type Verdict uint8

const (
	// OnTime: none of its windows had been emitted.
	OnTime Verdict = iota
	// Late: at least one had; it will be corrected by the policy at the next Advance.
	Late
	// Diverted: at least one had, and stays as it is (policy Divert). Windows that are open still took the event.
	Diverted
	// TooLate: all of its windows have passed allowed lateness. The event was not taken.
	TooLate
	// Full: the tenant is at its bounds. The event was not taken.
	Full

	verdicts
)

var verdictNames = [...]string{"on_time", "late", "diverted", "too_late", "full"}

// String is the verdict's word in metrics: "too_late".
func (v Verdict) String() string {
	if v >= verdicts {
		return fmt.Sprintf("verdict(%d)", uint8(v))
	}
	return verdictNames[v]
}

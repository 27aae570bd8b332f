package windowed

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"
	_ "time/tzdata" // calendar windows, on machines without zones

	"github.com/vigie-io/vigie/pkg/series"
	"github.com/vigie-io/vigie/pkg/windows"
)

// Window says over which stretches of event time a rollup counts. Exactly one of Tumbling, Hopping, Calendar and
// Session is set.
type Window struct {
	// Tumbling is the size of adjacent windows, whole seconds.
	Tumbling time.Duration `yaml:"tumbling,omitempty"`
	// Hopping are windows of one size that begin at an interval and overlap.
	Hopping *Hopping `yaml:"hopping,omitempty"`
	// Calendar are the days, weeks or months of a time zone.
	Calendar *Calendar `yaml:"calendar,omitempty"`
	// Session are stretches of activity, each until it has been silent for a while.
	Session *Session `yaml:"session,omitempty" json:",omitempty"`
	// AllowedLateness is how long after its end, in event time, a window is corrected. Default 0s: not at all.
	AllowedLateness time.Duration `yaml:"allowed_lateness,omitempty"`
	// Late says what becomes of an event whose window has closed: recompute (within allowed_lateness the window is
	// written again), merge (within allowed_lateness a row is added to it), or divert (the window stays, and the event
	// is counted beside it). Default recompute.
	Late string `yaml:"late,omitempty" json:",omitempty"`
}

// Hopping is the shape of overlapping windows, in whole seconds.
type Hopping struct {
	// Size is the length of a window.
	Size time.Duration `yaml:"size"`
	// Every is the time between the beginnings of two windows, at most Size.
	Every time.Duration `yaml:"every"`
}

// Calendar is a unit of the calendar.
type Calendar struct {
	// Unit is day, week (from Monday) or month.
	Unit string `yaml:"unit"`
	// Zone is a time zone of the IANA database, such as Europe/Paris. Default UTC.
	Zone string `yaml:"zone"`
}

// Session says what belongs to one session, in whole seconds.
type Session struct {
	// Gap is how long it is silent before a session ends. A session is from its first event to Gap after its last.
	Gap time.Duration `yaml:"gap"`
	// By are fields that an event must have to belong to a session; they become labels beside those of the rollup.
	// Default none: a session is of a series.
	By []string `yaml:"by,omitempty" json:"-"`
}

// shape is what the windows look like, as results say it. The window is valid.
func (w *Window) shape() string {
	if w.Session != nil {
		return windows.Shape{Gap: w.Session.Gap}.String()
	}
	aligned, err := w.aligned()
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return windows.Shape{Aligned: aligned}.String()
}

const (
	// maxHops bounds how many windows one event may lie in.
	maxHops = 1000
)

// Validate checks the window.
func (w *Window) Validate() error {
	_, err := w.open()
	return err
}

// open checks the window and makes a store for what is open of it.
func (w *Window) open() (openWindows, error) {
	given := 0
	for _, is := range []bool{w.Tumbling != 0, w.Hopping != nil, w.Calendar != nil, w.Session != nil} {
		if is {
			given++
		}
	}
	switch {
	case given != 1:
		return nil, fmt.Errorf("window: got %d of tumbling, hopping, calendar and session, want one", given)
	case w.AllowedLateness < 0:
		return nil, fmt.Errorf("window.allowed_lateness %s: want 0s or more", w.AllowedLateness)
	}
	late, err := w.LatePolicy()
	if err != nil {
		return nil, err
	}
	// Each tenant has its own limits.
	bounds := windows.StoreConfig{AllowedLateness: w.AllowedLateness, Late: late, MaxSlices: math.MaxInt, MaxBytes: math.MaxInt64}
	if w.Session != nil {
		if gap := w.Session.Gap; gap < time.Second || gap%time.Second != 0 {
			return nil, fmt.Errorf("window.session.gap %s: want whole seconds, 1s or more", gap)
		}
		if late == windows.MergeDelta {
			return nil, errors.New("window.late merge: sessions change their bounds, want recompute or divert")
		}
		sessions := windows.NewSessions(windows.SessionConfig{Gap: w.Session.Gap, StoreConfig: bounds}, windowValues)
		return sessionWindows{sessions, int64(w.Session.Gap)}, nil
	}
	aligned, err := w.aligned()
	if err != nil {
		return nil, err
	}
	return alignedWindows{windows.NewStore(aligned, bounds, windowValues)}, nil
}

// LatePolicy is the policy for late events.
func (w *Window) LatePolicy() (windows.LatePolicy, error) {
	if w.Late == "" {
		return windows.Recompute, nil
	}
	late, err := windows.ParseLatePolicy(w.Late)
	if err != nil {
		return 0, fmt.Errorf("window.%w", err)
	}
	return late, nil
}

func (w *Window) aligned() (windows.Aligned, error) {
	switch {
	case w.Tumbling != 0:
		return tumbling(w.Tumbling)
	case w.Hopping != nil:
		return hopping(w.Hopping)
	}
	return calendar(w.Calendar)
}

func tumbling(size time.Duration) (windows.Aligned, error) {
	if size < time.Second || size%time.Second != 0 {
		return nil, fmt.Errorf("window.tumbling %s: want whole seconds, 1s or more", size)
	}
	return windows.Tumbling{Size: size}, nil
}

func hopping(h *Hopping) (windows.Aligned, error) {
	switch {
	case h.Every < time.Second || h.Every%time.Second != 0:
		return nil, fmt.Errorf("window.hopping.every %s: want whole seconds, 1s or more", h.Every)
	case h.Size < h.Every || h.Size%time.Second != 0:
		return nil, fmt.Errorf("window.hopping.size %s: want whole seconds, at least every (%s)", h.Size, h.Every)
	case h.Size/h.Every > maxHops:
		return nil, fmt.Errorf("window.hopping: %s every %s puts an event into %d windows, want at most %d", h.Size,
			h.Every, h.Size/h.Every, maxHops)
	}
	return windows.Hopping{Size: h.Size, Hop: h.Every}, nil
}

func calendar(c *Calendar) (windows.Aligned, error) {
	unit, err := windows.ParseUnit(c.Unit)
	if err != nil {
		return nil, fmt.Errorf("window.calendar.unit: %w", err)
	}
	zone, err := time.LoadLocation(c.Zone)
	if err != nil || c.Zone == "Local" {
		return nil, fmt.Errorf("window.calendar.zone %q: want a zone of the IANA database, such as Europe/Paris", c.Zone)
	}
	return windows.Calendar{Unit: unit, Zone: zone}, nil
}

// Rule is what of a declared rollup decides about its windows. Whatever changes it makes another rule, whose windows
// are kept apart: those that are open under the old one finish as they began.
type Rule struct {
	Name    string
	Measure string
	Window  Window
	Keep    *Keep `json:",omitempty"` // with its defaults
}

// Definition is the rule as state remembers it, and id its hash.
func (r *Rule) Definition() (text []byte, id uint64) {
	rule := *r
	if rule.Window.Late == windows.Recompute.String() {
		rule.Window.Late = "" // to say the default changes nothing
	}
	text, err := json.Marshal(&rule)
	if err != nil {
		panic("BUG: a rule does not marshal: " + err.Error())
	}
	return text, series.Hash(text).Lo
}

var errDefinition = errors.New("want the definition of a windowed rollup")

// openDefinition makes the store of a rule from its definition.
func openDefinition(text []byte) (*store, error) {
	var r Rule
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("%w: %w", errDefinition, err)
	}
	open, err := r.Window.open()
	if err == nil && r.Keep != nil && r.Keep.Top != nil {
		_, err = r.Keep.Top.validate()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errDefinition, err)
	}
	return &store{
		openWindows: open, definition: text, shape: r.Window.shape(), keep: r.Keep, tenants: map[string]bool{},
	}, nil
}

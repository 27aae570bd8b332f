package pipeline

import (
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

// searches look for the series of events that had to be decoded, those of a run or some of a record, all at once: to find
// one is to wait for memory four times. What they find changes no result: an event without a search makes its own.
type searches struct {
	keys []byte
	list []series.Search[entry]
}

func (s *searches) reset() { s.keys, s.list = s.keys[:0], s.list[:0] }

// add searches for the series of an event of tn.
func (s *searches) add(tn *tenant, m *events.Metric) {
	from := len(s.keys)
	s.keys = series.AppendKey(s.keys, byte(kindOf(m)), m.Name, m.Labels)
	s.list = append(s.list, tn.table.Sought(s.keys[from:]))
}

// searchRun searches for the events of a run that are alone in their record, and appends those found to list.
func (t *Task) searchRun(run []Record, list []ahead) []ahead {
	scratch := t.cfg.Scratch
	s := &scratch.ofRun
	s.reset()
	from := len(list)
	for i := range run {
		h := &scratch.headers[i]
		if h.claimant == nil || h.barred != nil || scratch.looks[i].Known() || len(h.batch.Metrics) != 1 {
			continue
		}
		if m := &h.batch.Metrics[0]; t.admit.admits(m.Time) {
			s.add(h.claimant, m)
			list = append(list, ahead{tenant: h.claimant, value: m.Value})
			h.search = len(s.list)
		}
	}
	return t.seek(s, list, from)
}

// searchSome searches for some events of a record that has several, and returns one search for each of them: none when the
// tenant is new, or they seem to be out of time.
func (t *Task) searchSome(tn *tenant, some []events.Metric) []series.Search[entry] {
	if tn == nil || !t.admit.admits(some[0].Time) {
		return nil
	}
	s, list := &t.cfg.Scratch.ofRecord, t.cfg.Scratch.ahead[:0]
	s.reset()
	for i := range some {
		s.add(tn, &some[i])
		list = append(list, ahead{tenant: tn, value: some[i].Value})
	}
	list = t.seek(s, list, 0)
	t.read(list)
	t.cfg.Scratch.ahead = list
	return s.list
}

// seek makes all searches, which are for the events of list behind from, and leaves those of list that were found.
func (t *Task) seek(s *searches, list []ahead, from int) []ahead {
	t.fetched += series.FindAll(s.list)
	kept := list[:from]
	for i := range s.list {
		if search := &s.list[i]; search.Found {
			a := list[from+i]
			a.entry = search.Table.At(search.Ref)
			kept = append(kept, a)
		}
	}
	return kept
}

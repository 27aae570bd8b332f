package pipeline

import (
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

// search looks for the series of an event that had to be decoded, and where there is none for the class that it would
// have.
type search struct {
	series series.Search[entry]
	class  series.Search[class] // without a Table: it was not looked for
}

// searches are those of a run, or of some events of a record, all at once: to find a series is to wait for memory four
// times. What they find changes no result: an event without a search makes its own.
type searches struct {
	number  int
	list    [runRecords]search
	metrics [runRecords]*events.Metric
	ahead   [runRecords]ahead
	keys    []byte

	series  [runRecords]*series.Search[entry] // into list
	classes [runRecords]*series.Search[class] // the same, of those that were looked for
}

func (s *searches) reset() { s.number, s.keys = 0, s.keys[:0] }

// add searches for the series of an event of tn.
func (s *searches) add(tn *tenant, m *events.Metric) {
	n, from := s.number, len(s.keys)
	s.keys = series.AppendKey(s.keys, byte(kindOf(m)), m.Name, m.Labels)
	s.list[n] = search{series: tn.table.Sought(s.keys[from:])}
	s.metrics[n], s.ahead[n] = m, ahead{tenant: tn, value: m.Value}
	s.series[n] = &s.list[n].series
	s.number++
}

// searchRun searches for the events of a run that are alone in their record, and appends those found to list.
func (t *Task) searchRun(run []Record, list []ahead) []ahead {
	scratch := t.cfg.Scratch
	s := &scratch.ofRun
	s.reset()
	for i := range run {
		h := &scratch.headers[i]
		if h.claimant == nil || h.barred != nil || scratch.looks[i].Known() || len(h.batch.Metrics) != 1 {
			continue
		}
		if m := &h.batch.Metrics[0]; t.admit.admits(m.Time) {
			s.add(h.claimant, m)
			h.search = s.number
		}
	}
	return t.seek(s, list)
}

// searchSome searches for some events of a record that has several, and returns one search for each of them: none when the
// tenant is new, or they seem to be out of time.
func (t *Task) searchSome(tn *tenant, some []events.Metric) []search {
	if tn == nil || !t.admit.admits(some[0].Time) {
		return nil
	}
	s := &t.cfg.Scratch.ofRecord
	s.reset()
	for i := range some {
		s.add(tn, &some[i])
	}
	list := t.seek(s, t.cfg.Scratch.ahead[:0])
	t.read(list)
	t.cfg.Scratch.ahead = list
	return s.list[:s.number]
}

// seek makes all searches, and appends the events of which the series was found to list.
func (t *Task) seek(s *searches, list []ahead) []ahead {
	t.fetched += series.FindAll(s.series[:s.number])
	for i := range s.number {
		if found := &s.list[i].series; found.Found {
			s.ahead[i].entry = found.Table.At(found.Ref)
			list = append(list, s.ahead[i])
		}
	}
	t.seekClasses(s)
	return list
}

// seekClasses makes the searches for classes of series that are new, and reads what these will change.
func (t *Task) seekClasses(s *searches) {
	classes := s.classes[:0]
	for i := range s.number {
		if tn := s.ahead[i].tenant; !s.list[i].series.Found && tn.table.Len() < tn.limit {
			from, of := len(s.keys), identityOf(s.metrics[i])
			s.keys = appendClassKey(s.keys, &of)
			s.list[i].class = tn.classes.Sought(s.keys[from:])
			classes = append(classes, &s.list[i].class)
		}
	}
	t.fetched += series.FindAll(classes)
	for _, c := range classes {
		if c.Found {
			t.fetched += uint64(c.Table.At(c.Ref).size)
		}
	}
	for _, c := range classes {
		if c.Found {
			t.fetched += uint64(c.Table.At(c.Ref).group.size)
		}
	}
}

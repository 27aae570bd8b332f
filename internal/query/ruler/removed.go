package ruler

import (
	"maps"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/vigie-io/vigie/internal/tenants"
)

// removed ends the series of groups that are in no file any more, and forgets their states when they have long not been
// evaluated: until then a file may come back. It returns what is to be committed together.
func (s *shardRun) removed(files *Files) (records map[tenants.ID][][]byte, states map[string][]byte) {
	records, states = map[tenants.ID][][]byte{}, map[string][]byte{}
	live := map[tenants.ID]map[string]bool{} // what the groups of a tenant record, once it is asked for
	for key, bytes := range maps.Clone(s.states) {
		if files.has(key) {
			continue // it is about to be taken over
		}
		state, err := parseState(bytes)
		if err != nil {
			continue
		}
		tenant := tenantOf(key)
		if s.ruler.now().Sub(moment(state.Evaluated)) > forgetAfter {
			states[key] = nil
			delete(s.states, key)
		} else if len(state.Series) > 0 && s.settled(tenant, files, state) {
			if live[tenant] == nil {
				live[tenant] = s.liveOf(tenant)
			}
			records[tenant] = append(records[tenant], s.markers(tenant, state, live[tenant])...)
			state.Series = nil
			states[key] = state.bytes()
			s.states[key] = states[key]
		}
	}
	return records, states
}

// settled tells whether the other groups of a tenant have had two intervals of a removed group to record its series: it
// may only have got another name.
func (s *shardRun) settled(tenant tenants.ID, files *Files, state groupState) bool {
	complete := s.complete[tenant]
	if state.Interval == 0 || complete.IsZero() || complete.UnixMilli() < state.Evaluated+2*state.Interval {
		return false
	}
	t := s.tenants[tenant]
	if t == nil {
		return true
	}
	if t.running || t.files != files {
		return false
	}
	for _, g := range t.groups {
		if due, _ := g.next(complete.UnixMilli(), 0); g.evaluated == 0 || due != 0 {
			return false
		}
	}
	return true
}

// liveOf are the series that the groups of a tenant recorded last, by their bytes.
func (s *shardRun) liveOf(tenant tenants.ID) map[string]bool {
	live := map[string]bool{}
	if t := s.tenants[tenant]; t != nil {
		for _, g := range t.groups {
			for key := range g.live {
				live[key] = true
			}
		}
	}
	return live
}

// markers end the series of a removed group when it would have been evaluated next, but for those that others record.
func (s *shardRun) markers(tenant tenants.ID, state groupState, others map[string]bool) [][]byte {
	out := outputs{tenant: tenant, overlay: newOverlay(0), metrics: s.ruler.metrics}
	if t := s.tenants[tenant]; t != nil {
		out.overlay = t.overlay
	}
	out.begin(state.Evaluated+state.Interval, nil)
	for _, one := range state.Series {
		if ls := labels.FromMap(one); !others[string(ls.Bytes(nil))] {
			out.end(ls)
		}
	}
	return out.take()
}

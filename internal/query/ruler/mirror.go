package ruler

import (
	"context"
	"slices"
	"sync"

	"github.com/prometheus/prometheus/rules"
)

// mirror shows the groups that other processes evaluate, made of the states that they commit. Safe for concurrent use.
type mirror struct {
	mu     sync.Mutex
	states map[string]observed
	groups map[string]reflected
	count  int
}

// observed is a state, the number-th that was observed.
type observed struct {
	state  []byte
	number int
}

// reflected is a group made of files and a state.
type reflected struct {
	files  *Files
	number int
	rules  *rules.Group
}

func newMirror() *mirror {
	return &mirror{states: map[string]observed{}, groups: map[string]reflected{}}
}

func (m *mirror) observe(key string, state []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.count++; state == nil {
		delete(m.states, key)
		return
	}
	m.states[key] = observed{slices.Clone(state), m.count}
}

// group is the group of a file as it was observed last; as new when it was not, or its state cannot be read.
func (m *mirror) group(r *Ruler, file fileGroup, files *Files) *rules.Group {
	m.mu.Lock()
	defer m.mu.Unlock()
	last, known := m.states[file.key()], m.groups[file.key()]
	if known.files == files && known.number == last.number {
		return known.rules
	}
	g, err := newGroup(context.Background(), r, file, files, newOverlay(0))
	if err != nil {
		r.log.Warn("a rule group cannot be shown", "tenant", file.tenant, "group", file.group.Name, "err", err)
		return nil
	}
	if last.state != nil {
		if err := g.restore(last.state); err != nil {
			r.log.Warn("the state of a rule group cannot be shown", "tenant", file.tenant, "group", file.group.Name, "err", err)
		}
	}
	if known.files != files { // some may be in no file any more
		for key, old := range m.groups {
			if old.files != files {
				delete(m.groups, key)
			}
		}
	}
	m.groups[file.key()] = reflected{files, last.number, g.rules}
	return g.rules
}

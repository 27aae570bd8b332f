package kafka

import (
	"encoding/hex"
	"strings"
	"sync"
)

// mark is what a member notes beside an offset that it commits: which topic, of which cluster, the offset belongs to.
// Kafka keeps offsets by a topic's name, and one that is deleted has a namesake soon. Tools that mirror or back up
// groups may copy it into another cluster.
type mark struct {
	cluster string
	topic   [16]byte
}

const (
	markCluster = "cluster="
	markTopic   = "topic="
)

// write appends the mark to the id of the member. Without both parts it is of no use, and the id stands alone, as it
// did in older versions.
func (m mark) write(member string) string {
	if m.cluster == "" || m.topic == [16]byte{} {
		return member
	}
	return member + " " + markCluster + m.cluster + " " + markTopic + hex.EncodeToString(m.topic[:])
}

// readMark is the mark in an offset's metadata, the zero one when there is none.
func readMark(metadata string) (m mark) {
	words := strings.Fields(metadata)
	if len(words) < 3 {
		return mark{}
	}
	cluster, one := strings.CutPrefix(words[len(words)-2], markCluster)
	topic, two := strings.CutPrefix(words[len(words)-1], markTopic)
	id, err := hex.DecodeString(topic)
	if !one || !two || err != nil || len(id) != len(m.topic) {
		return mark{}
	}
	return mark{cluster, [16]byte(id)}
}

// marks are those of a session's sources. They are known once state of the topic has been read, and nothing is read
// from it before. Safe for concurrent use.
type marks struct {
	mu sync.Mutex
	of map[string]mark // by topic
}

func (m *marks) set(topic string, to mark) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.of == nil {
		m.of = map[string]mark{}
	}
	m.of[topic] = to
}

func (m *marks) get(topic string) mark {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.of[topic]
}

// beside is what a member notes beside its offsets of a topic.
func (m *marks) beside(topic, member string) *string {
	noted := m.get(topic).write(member)
	return &noted
}

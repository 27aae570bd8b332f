package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/pause"
)

// Admin makes and checks topics. It is safe for concurrent use.
type Admin struct {
	cfg    Config
	client *kgo.Client
	admin  *kadm.Client
	log    *slog.Logger
}

// TopicState is one topic as it stands.
type TopicState struct {
	Name       string
	ID         [16]byte
	Partitions int
	Created    bool     // by this call
	Notes      []string // harmless differences from the configuration
}

// NewAdmin returns an Admin. It connects at the first call.
func NewAdmin(cfg Config, log *slog.Logger) (*Admin, error) {
	options, err := cfg.options("admin", log)
	if err != nil {
		return nil, err
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		return nil, fmt.Errorf("kafka client: %w", err)
	}
	return &Admin{cfg: cfg, client: client, admin: kadm.NewClient(client), log: log}, nil
}

// Close ends the connections.
func (a *Admin) Close() { a.client.Close() }

// Ping returns nil when a broker answers.
func (a *Admin) Ping(ctx context.Context) error {
	if err := a.client.Ping(ctx); err != nil {
		return fmt.Errorf("reach kafka at %s: %w", strings.Join(a.cfg.Brokers, ", "), err)
	}
	return nil
}

// EnsureTopics creates the topics that are missing (when create_topics is on), waits until all of them can be
// used, and checks those that exist. It changes no existing topic. An error says what would lose or refuse data;
// differences that do no harm are notes. It may be called any number of times, by several processes at once.
func (a *Admin) EnsureTopics(ctx context.Context) ([]TopicState, error) {
	created, err := a.createMissing(ctx)
	if err != nil {
		return nil, err
	}
	details, err := a.awaitTopics(ctx, a.names())
	if err != nil {
		return nil, err
	}
	configs := a.configs(ctx)
	var states []TopicState
	var problems []error
	a.cfg.Topics.each(func(key string, topic *Topic) {
		detail := details[topic.Name]
		state := TopicState{Name: topic.Name, ID: detail.ID, Partitions: len(detail.Partitions), Created: created[topic.Name]}
		if source := a.cfg.Topics.sourceOf(key); source != nil {
			problems = append(problems, checkState(state, source.Name, len(details[source.Name].Partitions)))
			if stateKey(key) && state.Created && !created[source.Name] {
				state.Notes = append(state.Notes, "is new and its source "+source.Name+
					" is not: state begins empty; watermarks rise again with the next events")
			}
		} else if state.Partitions != int(topic.Partitions) {
			state.Notes = append(state.Notes,
				fmt.Sprintf("has %d partitions, kafka.topics.%s.partitions is %d", state.Partitions, key, topic.Partitions))
		}
		if key == "dlq_replayed" && state.Partitions != 1 {
			problems = append(problems, fmt.Errorf("topic %s has %d partitions: want 1", topic.Name, state.Partitions))
		}
		problems = append(problems, checkConfig(key, topic, configs[topic.Name]))
		states = append(states, state)
	})
	return states, errors.Join(problems...)
}

func (a *Admin) createMissing(ctx context.Context) (map[string]bool, error) {
	details, err := a.admin.ListTopics(ctx, a.names()...)
	if err != nil {
		return nil, fmt.Errorf("list topics at %s: %w", strings.Join(a.cfg.Brokers, ", "), a.refused(ctx, err))
	}
	created := map[string]bool{}
	counts := map[string]int32{} // of topics that are there, or would be; a source comes before those that follow it
	var problems []error
	a.cfg.Topics.each(func(key string, topic *Topic) {
		detail, known := details[topic.Name]
		if known && !errors.Is(detail.Err, kerr.UnknownTopicOrPartition) {
			if detail.Err != nil {
				problems = append(problems, fmt.Errorf("look up topic %s: %w", topic.Name, detail.Err))
			}
			counts[topic.Name] = int32(len(detail.Partitions))
			return
		}
		partitions := topic.Partitions
		if source := a.cfg.Topics.sourceOf(key); source != nil {
			partitions = counts[source.Name]
		}
		if partitions == 0 {
			return // the problem is its source's
		}
		if !a.cfg.CreateTopics {
			problems = append(problems,
				fmt.Errorf("topic %s does not exist: create it (partitions %d, %s), or set kafka.create_topics: true",
					topic.Name, partitions, describe(topicConfig(key, topic))))
			counts[topic.Name] = partitions
			return
		}
		var problem error
		created[topic.Name], counts[topic.Name], problem = a.createOrFind(ctx, key, topic, partitions)
		problems = append(problems, problem)
	})
	return created, errors.Join(problems...)
}

// createOrFind also returns how many partitions the topic has: whoever else made it a moment ago, as a broker may know
// before the one that was asked, chose their number.
func (a *Admin) createOrFind(ctx context.Context, key string, topic *Topic, partitions int32) (bool, int32, error) {
	switch err := a.create(ctx, key, topic, partitions); {
	case err == nil:
		return true, partitions, nil
	case !errors.Is(err, kerr.TopicAlreadyExists):
		return false, 0, fmt.Errorf("create topic %s: %w", topic.Name, err)
	}
	details, err := a.awaitTopics(ctx, []string{topic.Name})
	return false, int32(len(details[topic.Name].Partitions)), err
}

// refused names the topics that brokers do not let this process see, when it is that.
func (a *Admin) refused(ctx context.Context, err error) error {
	if !errors.Is(err, kerr.TopicAuthorizationFailed) {
		return explain(err)
	}
	response, asking := describeTopics(ctx, a.client, a.names()...)
	if asking != nil {
		return err
	}
	var hidden []string
	for _, topic := range response.Topics {
		if topic.Topic != nil && topic.ErrorCode == kerr.TopicAuthorizationFailed.Code {
			hidden = append(hidden, *topic.Topic)
		}
	}
	return fmt.Errorf("needs DESCRIBE on %s (docs/operating.md, Rights on Kafka): %w", strings.Join(hidden, ", "), err)
}

func (a *Admin) create(ctx context.Context, key string, topic *Topic, partitions int32) error {
	replication := a.cfg.Replication
	if replication == 0 {
		replication = -1
	}
	answer, err := a.admin.CreateTopic(ctx, partitions, replication, topicConfig(key, topic), topic.Name)
	if err != nil && answer.ErrMessage != "" {
		return fmt.Errorf("%w: %s", err, answer.ErrMessage)
	}
	return err
}

// topicConfig is what a topic is created with.
func topicConfig(key string, topic *Topic) map[string]*string {
	config := map[string]*string{
		"max.message.bytes": kadm.StringPtr(strconv.FormatInt(int64(topic.MaxMessage), 10)),
		"cleanup.policy":    kadm.StringPtr(policy(key)),
	}
	if policy(key) == "delete" {
		retention := int64(-1)
		if topic.Retention > 0 {
			retention = topic.Retention.Milliseconds()
		}
		config["retention.ms"] = kadm.StringPtr(strconv.FormatInt(retention, 10))
	}
	if stateKey(key) || key == "rule_state" {
		for name, value := range stateConfig {
			config[name] = kadm.StringPtr(value)
		}
	}
	return config
}

// stateConfig keeps the log of a state topic near the size of its live keys, so that restoring is quick: compaction
// never touches the active segment, so segments are small and short; it begins when a tenth is stale. Tombstones stay
// for longer than any restore takes: a reader that has passed a key's value has to meet its tombstone.
var stateConfig = map[string]string{
	"segment.bytes":             "33554432",
	"segment.ms":                "3600000",
	"min.cleanable.dirty.ratio": "0.1",
	"delete.retention.ms":       "3600000",
}

func policy(key string) string {
	if key == "dlq_replayed" || key == "rule_state" || stateKey(key) {
		return "compact"
	}
	return "delete"
}

func describe(config map[string]*string) string {
	return fmt.Sprintf("max.message.bytes %s, cleanup.policy %s", *config["max.message.bytes"], *config["cleanup.policy"])
}

// awaitTopics returns when each of the topics has a leader for each partition; new topics need a moment.
func (a *Admin) awaitTopics(ctx context.Context, names []string) (kadm.TopicDetails, error) {
	for {
		details, err := a.admin.ListTopics(ctx, names...)
		missing := err
		if err == nil {
			missing = firstMissing(details, names)
		}
		if missing == nil {
			return details, nil
		}
		if ended := pause.For(ctx, 50*time.Millisecond); ended != nil {
			return nil, fmt.Errorf("wait for topics: %w (%w)", missing, ended)
		}
	}
}

func firstMissing(details kadm.TopicDetails, names []string) error {
	for _, name := range names {
		detail := details[name]
		if detail.Err != nil || len(detail.Partitions) == 0 {
			return fmt.Errorf("topic %s is not there yet: %w", name, errors.Join(detail.Err))
		}
		for _, partition := range detail.Partitions {
			if partition.Err != nil || partition.Leader < 0 {
				return fmt.Errorf("topic %s partition %d has no leader: %w", name, partition.Partition,
					errors.Join(partition.Err))
			}
		}
	}
	return nil
}

func (a *Admin) names() (names []string) {
	a.cfg.Topics.each(func(_ string, topic *Topic) { names = append(names, topic.Name) })
	return names
}

// configs reads the topics' configuration; without the right to read it nothing can be checked.
func (a *Admin) configs(ctx context.Context) map[string]map[string]string {
	resources, err := a.admin.DescribeTopicConfigs(ctx, a.names()...)
	if err != nil {
		a.log.Warn("topic configuration cannot be read and is not checked", "err", err)
		return nil
	}
	out := map[string]map[string]string{}
	for _, resource := range resources {
		if resource.Err != nil {
			a.log.Warn("topic configuration cannot be read and is not checked", "topic", resource.Name, "err", resource.Err)
			continue
		}
		values := map[string]string{}
		for _, config := range resource.Configs {
			values[config.Key] = config.MaybeValue()
		}
		out[resource.Name] = values
	}
	return out
}

// checkState compares a topic with the one whose partitions it has: partition N of the one belongs to partition N of the other.
func checkState(state TopicState, source string, partitions int) error {
	switch {
	case state.Partitions < partitions:
		return fmt.Errorf("topic %s has %d partitions and its source %s has %d: "+
			"add partitions to it (kafka-topics.sh --alter --topic %s --partitions %d), no state is lost",
			state.Name, state.Partitions, source, partitions, state.Name, partitions)
	case state.Partitions > partitions:
		return fmt.Errorf("topic %s has %d partitions and its source %s has only %d, "+
			"so the source is not the one it was written for: "+
			"create the source with %d partitions, or delete %s to begin without state",
			state.Name, state.Partitions, source, partitions, state.Partitions, state.Name)
	}
	return nil
}

// checkConfig finds what would lose or refuse data.
func checkConfig(key string, topic *Topic, have map[string]string) error {
	if got, ok := have["cleanup.policy"]; ok {
		if compacted, want := strings.Contains(got, "compact"), policy(key) == "compact"; compacted && !want {
			return fmt.Errorf("topic %s has cleanup.policy %s, which drops records of the same key: set it to delete",
				topic.Name, got)
		} else if want && got != "compact" {
			return fmt.Errorf("topic %s has cleanup.policy %s, which forgets records that are still needed: set it to compact",
				topic.Name, got)
		}
	}
	if got, err := strconv.ParseInt(have["max.message.bytes"], 10, 64); err == nil && got < int64(topic.MaxMessage) {
		return fmt.Errorf("topic %s has max.message.bytes %d, less than kafka.topics.%s.max_message %s: "+
			"raise the one or lower the other", topic.Name, got, key, topic.MaxMessage)
	}
	return nil
}

package kafka

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/vigie-io/vigie/internal/units"
)

// Config is how to reach Kafka and what Vigie keeps there (section "kafka").
type Config struct {
	// Addresses host:port of some brokers; the rest of the cluster is found through them.
	// Default 127.0.0.1:7092, the broker of `vigie dev`.
	Brokers []string `yaml:"brokers"`
	// Name under which Vigie's connections appear in the brokers' logs, metrics and quotas; the role is appended
	// ("vigie-stream"). Default vigie.
	ClientID string `yaml:"client_id"`
	// Name of this process among those of the same installation, the same after every restart: with the worker's
	// slot it makes the transactional id and the group member id. Two running processes must not share it. In
	// Kubernetes the pod name of a StatefulSet. Default: the host name.
	Instance string `yaml:"instance"`
	// Encryption of the connections.
	TLS TLS `yaml:"tls"`
	// Authentication to the brokers.
	SASL SASL `yaml:"sasl"`
	// Consumer group of the stream workers; those of the sinks are this name with "-sink" and "-sink-coarse", that of
	// the mergers with "-coarse". Default vigie.
	Group string `yaml:"group"`
	// How the workers' group shares partitions: classic (the members do) or consumer (the brokers do, KIP-848; Apache
	// Kafka 4.0 or later). docs/operating.md says what differs. The sink's group is always classic. Default classic.
	GroupProtocol string `yaml:"group_protocol"`
	// Beginning of the transactional ids, followed by "-<instance>-<slot>": what an ACL has to allow, as a
	// prefix. Default vigie.
	TransactionalIDPrefix string `yaml:"transactional_id_prefix"`
	// Silence after which the group gives a worker's partitions to others. A worker that comes back under the
	// same instance name before that takes its partitions up at once. Default 30s; brokers allow 6s to 30m. With
	// group_protocol consumer the brokers' own setting counts instead (group.consumer.session.timeout.ms, 45s).
	SessionTimeout time.Duration `yaml:"session_timeout"`
	// Age at which the broker aborts a worker's open transaction. Readers wait that long (and up to 10s more) only for
	// a worker that died and did not come back. A transaction begins when an epoch has been read and its results are
	// written: it has to exceed the time that takes. Default 30s.
	TransactionTimeout time.Duration `yaml:"transaction_timeout"`
	// How often each worker asks for the ends of its partitions, for lag and for how far results reach. Queries
	// see data at least this late. Default 250ms.
	ReachInterval time.Duration `yaml:"reach_interval"`
	// Bytes of unpacked records that a worker's fetch from one broker holds, about; one is worked on while the next
	// waits. Default 16MiB.
	FetchBuffer units.Bytes `yaml:"fetch_buffer"`
	// Bytes that a batch of events may unpack to. All records of a larger one, and of one that cannot be unpacked,
	// become one dead letter (bad_batch), and the partition goes on behind them. Default 64MiB.
	MaxUnpacked units.Bytes `yaml:"max_unpacked"`
	// Longest time the ingest gateway waits for the acknowledgement of a request's events before it answers
	// 503. Default 10s.
	PublishTimeout time.Duration `yaml:"publish_timeout"`
	// Bytes of events the ingest gateway holds in memory for Kafka at most; requests wait when it is full.
	// Default 64MiB.
	PublishBuffer units.Bytes `yaml:"publish_buffer"`
	// Whether missing topics are created at start. Existing topics are never changed. Default true.
	CreateTopics bool `yaml:"create_topics"`
	// Replicas of each created topic; 0 takes the broker's default.replication.factor. Default 0.
	Replication int16 `yaml:"replication"`
	// The topics.
	Topics Topics `yaml:"topics"`

	// Dial replaces the network, for tests. It is not configuration.
	Dial func(ctx context.Context, network, address string) (net.Conn, error) `yaml:"-"`
}

// TLS is the encryption of broker connections.
type TLS struct {
	// Whether connections are encrypted. Default false.
	Enabled bool `yaml:"enabled"`
	// File with the PEM certificates of the authorities to trust; empty takes the system's. Default empty.
	CAFile string `yaml:"ca_file"`
	// File with this client's PEM certificate chain, for brokers that ask for one. Default empty.
	CertFile string `yaml:"cert_file"`
	// File with the PEM private key of cert_file. Default empty.
	KeyFile string `yaml:"key_file"`
	// Name to expect in the brokers' certificates instead of the address dialled. Default empty.
	ServerName string `yaml:"server_name"`
}

// SASL is the authentication to the brokers.
type SASL struct {
	// plain, scram-sha-256, scram-sha-512, or empty for none. Default empty.
	Mechanism string `yaml:"mechanism"`
	// User name. Default empty.
	Username string `yaml:"username"`
	// Password; better in password_file or the environment than in the file. Default empty.
	Password units.Secret `yaml:"password"`
	// File that holds the password; a line end after it is ignored. It is read at every new connection, so a
	// changed password needs no restart. Default empty.
	PasswordFile string `yaml:"password_file"`
}

// Topics are the topics Vigie reads and writes.
type Topics struct {
	// Events of signal metrics.
	Metrics Topic `yaml:"metrics"`
	// Events of signal spans.
	Spans Topic `yaml:"spans"`
	// Events of signal logs.
	Logs Topic `yaml:"logs"`
	// Keyed state of the tasks on metrics: partition N holds what the task on partition N of the source needs to go on.
	// Compacted. It has as many partitions as its source: leave partitions and retention 0.
	StateMetrics Topic `yaml:"state_metrics"`
	// The same for spans.
	StateSpans Topic `yaml:"state_spans"`
	// The same for logs.
	StateLogs Topic `yaml:"state_logs"`
	// Result blocks on their way to ClickHouse. Its max_message is the largest block.
	Results Topic `yaml:"results"`
	// Rows of a minute, merged of the results of many epochs, on their way to the wider tiers. It has as many partitions
	// as the results: leave partitions 0. Its max_message is the largest block.
	Coarse Topic `yaml:"coarse"`
	// How far each partition of the results has been merged. Compacted. Leave partitions and retention 0.
	StateCoarse Topic `yaml:"state_coarse"`
	// What alerts of the stream say: firing and resolved, by tenant.
	Alerts Topic `yaml:"alerts"`
	// State of the users' Prometheus rule groups; compacted. Its partitions share the groups among the processes that
	// evaluate.
	RuleState Topic `yaml:"rule_state"`
	// Records that could not be processed.
	DLQ Topic `yaml:"dlq"`
	// Which of them have been replayed; compacted. It has one partition.
	DLQReplayed Topic `yaml:"dlq_replayed"`
	// Result blocks that ClickHouse refused.
	Parked Topic `yaml:"parked"`
}

// Topic is one topic.
type Topic struct {
	// Name of the topic. Default: see docs/format.
	Name string `yaml:"name"`
	// Partitions when Vigie creates it. Existing topics keep theirs. Default 8 for events, 4 for results, alerts and
	// rule state, as the source for state and coarse, else 1.
	Partitions int32 `yaml:"partitions"`
	// How long records are kept when Vigie creates it; 0 is for ever. Default 72h for events, 168h for results and
	// coarse, 336h for alerts, dead letters and parked blocks.
	Retention time.Duration `yaml:"retention"`
	// Largest record batch (the topic's max.message.bytes). Default 4MiB for events, state and dead letters, 16MiB for
	// results and coarse, 17MiB for parked blocks.
	MaxMessage units.Bytes `yaml:"max_message"`
}

// DefaultConfig returns the documented defaults.
func DefaultConfig() Config {
	const day = 24 * time.Hour
	event := func(name string) Topic { return Topic{name, 8, 3 * day, 4 << 20} }
	state := func(name string) Topic { return Topic{name, 0, 0, 4 << 20} }
	return Config{
		Brokers:               []string{"127.0.0.1:7092"},
		ClientID:              "vigie",
		Group:                 "vigie",
		GroupProtocol:         protocolClassic,
		TransactionalIDPrefix: "vigie",
		SessionTimeout:        30 * time.Second,
		TransactionTimeout:    30 * time.Second,
		ReachInterval:         250 * time.Millisecond,
		FetchBuffer:           16 << 20,
		MaxUnpacked:           64 << 20,
		PublishTimeout:        10 * time.Second,
		PublishBuffer:         64 << 20,
		CreateTopics:          true,
		Topics: Topics{
			Metrics:      event("vigie.metrics.v1"),
			Spans:        event("vigie.spans.v1"),
			Logs:         event("vigie.logs.v1"),
			StateMetrics: state("vigie.state.metrics.v1"),
			StateSpans:   state("vigie.state.spans.v1"),
			StateLogs:    state("vigie.state.logs.v1"),
			Results:      Topic{"vigie.results.v1", 4, 7 * day, 16 << 20},
			Coarse:       Topic{"vigie.coarse.v1", 0, 7 * day, 16 << 20},
			StateCoarse:  state("vigie.state.coarse.v1"),
			Alerts:       Topic{"vigie.alerts.v1", 4, 14 * day, 4 << 20},
			RuleState:    Topic{"vigie.state.rules.v1", 4, 0, 4 << 20},
			DLQ:          Topic{"vigie.dlq.v1", 1, 14 * day, 4<<20 + 64<<10},
			DLQReplayed:  Topic{"vigie.dlq.replayed.v1", 1, 0, 1 << 20},
			Parked:       Topic{"vigie.parked.v1", 1, 14 * day, 17 << 20},
		},
	}
}

// Group protocols.
const (
	protocolClassic  = "classic"
	protocolConsumer = "consumer"
)

// nameLetters is what names of Kafka's are made of.
var nameLetters = regexp.MustCompile(`^[A-Za-z0-9._-]*$`)

// isName says whether a text is a name, or none, of at most so many bytes. The expression does not count them: a
// bounded repetition takes thousands of allocations to compile.
func isName(text string, most int) bool { return len(text) <= most && nameLetters.MatchString(text) }

const (
	maxTopicName    = 249
	maxInstanceName = 128
)

// Validate says what is wrong, naming the key.
func (c *Config) Validate() error {
	if len(c.Brokers) == 0 {
		return errors.New("kafka.brokers: want at least one host:port")
	}
	for _, broker := range c.Brokers {
		if _, _, err := net.SplitHostPort(broker); err != nil {
			return fmt.Errorf("kafka.brokers %q: want host:port", broker)
		}
	}
	for key, value := range map[string]string{
		"instance": c.Instance, "transactional_id_prefix": c.TransactionalIDPrefix, "group": c.Group, "client_id": c.ClientID,
	} {
		if !isName(value, maxInstanceName) || value == "" && key != "instance" {
			return fmt.Errorf("kafka.%s %q: want letters, digits, '.', '_' and '-', at most 128", key, value)
		}
	}
	if c.GroupProtocol != protocolClassic && c.GroupProtocol != protocolConsumer {
		return fmt.Errorf("kafka.group_protocol %q: want classic or consumer", c.GroupProtocol)
	}
	if err := c.validateSizes(); err != nil {
		return err
	}
	if err := c.TLS.validate(); err != nil {
		return err
	}
	if err := c.SASL.validate(); err != nil {
		return err
	}
	return c.Topics.validate()
}

func (c *Config) validateSizes() error {
	switch {
	case c.SessionTimeout < 6*time.Second || c.SessionTimeout > 30*time.Minute:
		return fmt.Errorf("kafka.session_timeout %s: want 6s to 30m", c.SessionTimeout)
	case c.TransactionTimeout < 10*time.Second || c.TransactionTimeout > 15*time.Minute:
		return fmt.Errorf("kafka.transaction_timeout %s: want 10s to 15m", c.TransactionTimeout)
	case c.ReachInterval < 10*time.Millisecond || c.ReachInterval > 10*time.Second:
		return fmt.Errorf("kafka.reach_interval %s: want 10ms to 10s", c.ReachInterval)
	case c.FetchBuffer < 1<<20 || c.FetchBuffer > 1<<30:
		return fmt.Errorf("kafka.fetch_buffer %s: want 1MiB to 1GiB", c.FetchBuffer)
	case c.MaxUnpacked < 1<<20 || c.MaxUnpacked >= unbounded:
		return fmt.Errorf("kafka.max_unpacked %s: want 1MiB to less than %s", c.MaxUnpacked, units.Bytes(unbounded))
	case c.PublishTimeout < 100*time.Millisecond || c.PublishTimeout > 5*time.Minute:
		return fmt.Errorf("kafka.publish_timeout %s: want 100ms to 5m", c.PublishTimeout)
	case c.PublishBuffer < 1<<20 || c.PublishBuffer > 64<<30:
		return fmt.Errorf("kafka.publish_buffer %s: want 1MiB to 64GiB", c.PublishBuffer)
	case c.Replication < 0:
		return fmt.Errorf("kafka.replication %d: want 0 (the broker's default) or more", c.Replication)
	}
	return nil
}

func (t *TLS) validate() error {
	if (t.CertFile == "") != (t.KeyFile == "") {
		return errors.New("kafka.tls: cert_file and key_file go together: set both or none")
	}
	if !t.Enabled && (t.CAFile != "" || t.CertFile != "") {
		return errors.New("kafka.tls: files are given but tls is off: set kafka.tls.enabled: true")
	}
	return nil
}

func (s *SASL) validate() error {
	switch s.Mechanism {
	case "":
		if s.Username != "" || s.Password != "" || s.PasswordFile != "" {
			return errors.New("kafka.sasl: a user is given but no mechanism: set kafka.sasl.mechanism")
		}
		return nil
	case "plain", "scram-sha-256", "scram-sha-512":
	default:
		return fmt.Errorf("kafka.sasl.mechanism %q: want plain, scram-sha-256 or scram-sha-512", s.Mechanism)
	}
	if s.Username == "" || (s.Password == "") == (s.PasswordFile == "") {
		return errors.New("kafka.sasl: want username and either password or password_file")
	}
	return nil
}

// minStateMessage holds the largest change of state.
const minStateMessage = 2 << 20

// stateKey says whether key is that of a state topic.
func stateKey(key string) bool { return strings.HasPrefix(key, "state_") }

// sourceOf is the topic whose partitions the topic with this key has, number by number; nil for topics of their own.
func (t *Topics) sourceOf(key string) *Topic {
	switch key {
	case "state_metrics":
		return &t.Metrics
	case "state_spans":
		return &t.Spans
	case "state_logs":
		return &t.Logs
	case "coarse", "state_coarse":
		return &t.Results
	}
	return nil
}

// each calls fn for every topic with its configuration key.
func (t *Topics) each(fn func(key string, topic *Topic)) {
	fn("metrics", &t.Metrics)
	fn("spans", &t.Spans)
	fn("logs", &t.Logs)
	fn("state_metrics", &t.StateMetrics)
	fn("state_spans", &t.StateSpans)
	fn("state_logs", &t.StateLogs)
	fn("results", &t.Results)
	fn("coarse", &t.Coarse)
	fn("state_coarse", &t.StateCoarse)
	fn("alerts", &t.Alerts)
	fn("rule_state", &t.RuleState)
	fn("dlq", &t.DLQ)
	fn("dlq_replayed", &t.DLQReplayed)
	fn("parked", &t.Parked)
}

// transactional are the names of those that are written in transactions.
func (t *Topics) transactional() (names []string) {
	t.each(func(_ string, topic *Topic) {
		if topic != &t.Parked {
			names = append(names, topic.Name)
		}
	})
	return names
}

func (t *Topics) validate() (err error) {
	seen := map[string]string{}
	t.each(func(key string, topic *Topic) {
		switch other := seen[topic.Name]; {
		case err != nil:
		case !isName(topic.Name, maxTopicName) || topic.Name == "":
			err = fmt.Errorf("kafka.topics.%s.name %q: want 1 to 249 of letters, digits, '.', '_' and '-'", key, topic.Name)
		case other != "":
			err = fmt.Errorf("kafka.topics.%s.name %q: is the name of kafka.topics.%s already", key, topic.Name, other)
		case stateKey(key) && (topic.Partitions != 0 || topic.Retention != 0):
			err = fmt.Errorf("kafka.topics.%s: leave partitions and retention 0: "+
				"a state topic has the partitions of its source and is compacted", key)
		case t.sourceOf(key) != nil && topic.Partitions != 0:
			err = fmt.Errorf("kafka.topics.%s: leave partitions 0: it has those of its source", key)
		case stateKey(key) && topic.MaxMessage < minStateMessage:
			err = fmt.Errorf("kafka.topics.%s.max_message %s: want 2MiB or more: a key and its state may have 1MiB",
				key, topic.MaxMessage)
		case t.sourceOf(key) == nil && (topic.Partitions < 1 || topic.Partitions > 10_000):
			err = fmt.Errorf("kafka.topics.%s.partitions %d: want 1 to 10000", key, topic.Partitions)
		case topic.Retention < 0:
			err = fmt.Errorf("kafka.topics.%s.retention %s: want 0 (for ever) or more", key, topic.Retention)
		case topic.MaxMessage < 64<<10 || topic.MaxMessage > 64<<20:
			err = fmt.Errorf("kafka.topics.%s.max_message %s: want 64KiB to 64MiB", key, topic.MaxMessage)
		}
		seen[topic.Name] = key
	})
	if err == nil && t.DLQReplayed.Partitions != 1 {
		err = fmt.Errorf("kafka.topics.dlq_replayed.partitions %d: want 1", t.DLQReplayed.Partitions)
	}
	return err
}

// instance is the configured name or the host's.
func (c *Config) instance() (string, error) {
	if c.Instance != "" {
		return c.Instance, nil
	}
	host, err := os.Hostname()
	if err != nil || !isName(host, maxInstanceName) {
		return "", fmt.Errorf("host name %q cannot serve as kafka.instance: set it (%w)", host, errors.Join(err))
	}
	return host, nil
}

// heartbeat is also how late a member learns of a rebalance.
func (c *Config) heartbeat() time.Duration { return min(time.Second, c.SessionTimeout/10) }

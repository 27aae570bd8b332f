package kafka_test

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/vigie-io/vigie/internal/kafka"
	"github.com/vigie-io/vigie/internal/testkit"
)

func TestEnsureTopicsTwiceAndAtOnce(t *testing.T) {
	_, cfg := fake(t)
	fresh := config(cfg.Brokers...)
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() { ensure(t, fresh) })
	}
	wg.Wait()
	states := ensure(t, fresh)
	if len(states) != 14 {
		t.Fatalf("topics: got %d, want 14", len(states))
	}
	for _, s := range states {
		if s.Created || len(s.Notes) > 0 || s.ID == [16]byte{} || s.Partitions == 0 {
			t.Errorf("%s: got %+v, want it there as configured", s.Name, s)
		}
	}
	fresh.Topics.Metrics.Partitions = 6
	if states[3].Name != fresh.Topics.StateMetrics.Name || states[3].Partitions != 4 || states[4].Partitions != 2 {
		t.Errorf("state topics: got %+v and %+v, want the partitions of their sources", states[3], states[4])
	}
	if states := ensure(t, fresh); len(states[0].Notes) != 1 || states[0].Partitions != 4 {
		t.Errorf("other partitions: got %+v, want a note", states[0])
	}
}

func TestEnsureTopicsFindsWhatWouldLoseData(t *testing.T) {
	f := func(want string, change func(*kafka.Config), alter map[string]string) {
		t.Helper()
		t.Run(want, func(t *testing.T) {
			_, cfg := fake(t)
			var configs []kadm.AlterConfig
			for name, value := range alter {
				configs = append(configs, kadm.AlterConfig{Op: kadm.SetConfig, Name: name, Value: kadm.StringPtr(value)})
			}
			for _, topic := range []string{cfg.Topics.Results.Name, cfg.Topics.DLQReplayed.Name} {
				if _, err := kadmOf(t, cfg).AlterTopicConfigs(deadline(t), configs, topic); err != nil && len(configs) > 0 {
					t.Fatal(err)
				}
			}
			change(&cfg)
			admin, err := kafka.NewAdmin(cfg, quiet())
			if err != nil {
				t.Fatal(err)
			}
			defer admin.Close()
			if _, err := admin.EnsureTopics(deadline(t)); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want an error with %q", err, want)
			}
		})
	}
	none := func(*kafka.Config) {}
	f("drops records of the same key", none, map[string]string{"cleanup.policy": "compact"})
	f("forgets records that are still needed", none, map[string]string{"cleanup.policy": "delete"})
	f("max.message.bytes 1000000, less than", none, map[string]string{"max.message.bytes": "1000000"})
	f("does not exist: create it", func(c *kafka.Config) { c.CreateTopics, c.Topics.Logs.Name = false, "other" }, nil)
	f("has 4 partitions: want 1", func(c *kafka.Config) {
		c.Topics.DLQReplayed.Name, c.Topics.Results.Name = c.Topics.Results.Name, "other"
	}, nil)
}

// Partition N of a state topic belongs to partition N of its source: they have equally many.
func TestEnsureTopicsComparesStateWithSource(t *testing.T) {
	f := func(want string, grown func(kafka.Config) string) {
		t.Helper()
		_, cfg := fake(t)
		if _, err := kadmOf(t, cfg).UpdatePartitions(deadline(t), 6, grown(cfg)); err != nil {
			t.Fatal(err)
		}
		admin, err := kafka.NewAdmin(cfg, quiet())
		if err != nil {
			t.Fatal(err)
		}
		defer admin.Close()
		if _, err := admin.EnsureTopics(deadline(t)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
	f("add partitions to it", func(c kafka.Config) string { return c.Topics.Metrics.Name })
	f("has only 4, so the source is not the one it was written for", func(c kafka.Config) string { return c.Topics.StateMetrics.Name })
}

// The broker that is asked may not know yet what was made a moment ago. What follows such a topic has its partitions
// all the same.
func TestEnsureTopicsFollowsATopicThatIsNotSeenYet(t *testing.T) {
	cluster, cfg := fake(t)
	fresh := config(cfg.Brokers...)
	large := map[string]*string{"max.message.bytes": kadm.StringPtr("16777216")}
	for _, source := range []string{fresh.Topics.Results.Name, fresh.Topics.Metrics.Name} {
		if _, err := kadmOf(t, fresh).CreateTopic(deadline(t), 3, 1, large, source); err != nil {
			t.Fatal(err)
		}
	}
	var asked atomic.Int32
	cluster.ControlKey(int16(kmsg.Metadata), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		topics := request.(*kmsg.MetadataRequest).Topics
		if len(topics) == 0 || asked.Add(1) > 3 {
			return nil, nil, false
		}
		answer := request.ResponseKind().(*kmsg.MetadataResponse)
		for _, topic := range topics {
			unknown := kmsg.NewMetadataResponseTopic()
			unknown.Topic, unknown.TopicID, unknown.ErrorCode = topic.Topic, topic.TopicID, kerr.UnknownTopicOrPartition.Code
			answer.Topics = append(answer.Topics, unknown)
		}
		return answer, nil, true
	})
	followers := []string{fresh.Topics.StateMetrics.Name, fresh.Topics.Coarse.Name, fresh.Topics.StateCoarse.Name}
	for _, s := range ensure(t, fresh) {
		if slices.Contains(followers, s.Name) && (!s.Created || s.Partitions != 3) {
			t.Errorf("%s: got %+v, want it made with the 3 partitions of its source", s.Name, s)
		}
	}
}

// Apache Kafka checks the configuration it is given.
func TestEnsureTopicsOnApacheKafka(t *testing.T) {
	broker := testkit.ApacheKafka(t)
	leaks(t)
	cfg := config(strings.Split(broker.Addr, ",")...)
	ensure(t, cfg)
	for _, s := range ensure(t, cfg) {
		if s.Created || len(s.Notes) > 0 {
			t.Errorf("%s: got %+v, want it there as configured", s.Name, s)
		}
	}
	cfg.Topics.Logs.Name, cfg.Replication = cfg.Topics.Logs.Name+"-3", 3
	admin, err := kafka.NewAdmin(cfg, quiet())
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if _, err := admin.EnsureTopics(deadline(t)); err == nil ||
		!strings.Contains(err.Error(), "create topic "+cfg.Topics.Logs.Name) {
		t.Errorf("three replicas on one broker: got %v, want an error that names the topic", err)
	}
}

func TestPing(t *testing.T) {
	cluster, cfg := fake(t)
	admin, err := kafka.NewAdmin(cfg, quiet())
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if err := admin.Ping(deadline(t)); err != nil {
		t.Errorf("ping: got %v, want nil", err)
	}
	cluster.Close()
	ctx := deadline(t)
	if err := admin.Ping(ctx); err == nil || !strings.Contains(err.Error(), cfg.Brokers[0]) {
		t.Errorf("ping without a broker: got %v, want an error with its address", err)
	}
}

func TestConfig(t *testing.T) {
	good := kafka.DefaultConfig()
	if err := good.Validate(); err != nil {
		t.Fatalf("default: got %v, want it valid", err)
	}
	f := func(want string, change func(*kafka.Config)) {
		t.Helper()
		cfg := kafka.DefaultConfig()
		change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
	f("kafka.brokers", func(c *kafka.Config) { c.Brokers = nil })
	f("host:port", func(c *kafka.Config) { c.Brokers = []string{"localhost"} })
	f("kafka.instance", func(c *kafka.Config) { c.Instance = "a b" })
	f("kafka.group", func(c *kafka.Config) { c.Group = "" })
	f("kafka.group_protocol", func(c *kafka.Config) { c.GroupProtocol = "eager" })
	f("kafka.session_timeout", func(c *kafka.Config) { c.SessionTimeout = time.Second })
	f("kafka.transaction_timeout", func(c *kafka.Config) { c.TransactionTimeout = time.Hour })
	f("kafka.reach_interval", func(c *kafka.Config) { c.ReachInterval = 0 })
	f("kafka.max_unpacked", func(c *kafka.Config) { c.MaxUnpacked = 1 << 30 })
	f("kafka.fetch_buffer", func(c *kafka.Config) { c.FetchBuffer = 1 })
	f("kafka.publish_timeout", func(c *kafka.Config) { c.PublishTimeout = 0 })
	f("kafka.publish_buffer", func(c *kafka.Config) { c.PublishBuffer = 0 })
	f("kafka.replication", func(c *kafka.Config) { c.Replication = -1 })
	f("kafka.tls", func(c *kafka.Config) { c.TLS.CAFile = "x" })
	f("kafka.tls", func(c *kafka.Config) { c.TLS.Enabled, c.TLS.CertFile = true, "x" })
	f("no mechanism", func(c *kafka.Config) { c.SASL.Username = "x" })
	f("mechanism", func(c *kafka.Config) { c.SASL.Mechanism = "md5" })
	f("password", func(c *kafka.Config) { c.SASL.Mechanism, c.SASL.Username = "plain", "x" })
	f("kafka.topics.dlq.name", func(c *kafka.Config) { c.Topics.DLQ.Name = "a/b" })
	f("is the name of", func(c *kafka.Config) { c.Topics.DLQ.Name = c.Topics.Logs.Name })
	f("partitions", func(c *kafka.Config) { c.Topics.Logs.Partitions = 0 })
	f("retention", func(c *kafka.Config) { c.Topics.Logs.Retention = -1 })
	f("max_message", func(c *kafka.Config) { c.Topics.Results.MaxMessage = 1 << 40 })
	f("want 1", func(c *kafka.Config) { c.Topics.DLQReplayed.Partitions = 2 })
}

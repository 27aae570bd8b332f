package devstack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kfake"
)

// KafkaConfig says how to run an embedded broker.
type KafkaConfig struct {
	// Addr is the loopback IP:port to listen on; port 0 takes a free one.
	Addr string
	// Dir keeps topics, offsets and transactions; it is created, and used by one process at a time.
	Dir string
	// Log gets the broker's warnings and errors; nil means slog.Default.
	Log *slog.Logger
}

// Kafka is a broker in this process, which any Kafka client on this machine can use. It has no topics at first and
// creates none by itself. Its differences from Apache Kafka matter to tests, see docs/real-parts.md.
type Kafka struct {
	addr    string
	cluster *kfake.Cluster
	lock    *dirLock
	once    sync.Once
	err     error
}

// StartKafka starts a broker with what cfg.Dir holds. ctx bounds the wait for a former process that is still ending.
// The caller must Close it: records survive any end of the process, but only Close writes the producers' state down.
func StartKafka(ctx context.Context, cfg KafkaConfig) (*Kafka, error) {
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("start Kafka in %s: %w", cfg.Dir, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("start Kafka: %w; make the directory writable for this user or choose another one", err)
	}
	lock, err := lockDir(ctx, "Kafka", dir)
	if err != nil {
		return nil, err
	}
	listener, err := listen("Kafka", cfg.Addr)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	cluster, err := kfake.NewCluster(
		kfake.NumBrokers(1),
		kfake.ListenFn(func(string, string) (net.Listener, error) { return listener, nil }),
		kfake.DataDir(filepath.Join(dir, "broker")),
		kfake.ClusterID("vigie-dev"),
		kfake.WithLogger(kafkaLog{cmp.Or(cfg.Log, slog.Default())}),
	)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start Kafka in %s: %w; move the directory away to start with an empty broker", dir, err),
			ignoreClosed(listener.Close()), lock.Close())
	}
	return &Kafka{addr: listener.Addr().String(), cluster: cluster, lock: lock}, nil
}

// Addr is the IP:port to give to clients.
func (k *Kafka) Addr() string { return k.addr }

// Cluster is the broker's control surface: faults, delays, request hooks. For tests.
func (k *Kafka) Cluster() *kfake.Cluster { return k.cluster }

// Close writes the broker's state down and ends it. Clients see a broken connection. It may be called more than once.
func (k *Kafka) Close() error {
	k.once.Do(func() {
		k.cluster.Close()
		k.err = k.lock.Close()
	})
	return k.err
}

// ignoreClosed drops the error of closing a listener that the broker closed already.
func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// kafkaLog passes on what an operator should see; the broker logs every request at Info.
type kafkaLog struct{ log *slog.Logger }

var _ kfake.Logger = kafkaLog{}

// Logf implements kfake.Logger.
func (l kafkaLog) Logf(level kfake.LogLevel, format string, args ...any) {
	switch level {
	case kfake.LogLevelError:
		l.log.Error("Kafka: " + fmt.Sprintf(format, args...))
	case kfake.LogLevelWarn:
		line := "Kafka: " + fmt.Sprintf(format, args...)
		if strings.Contains(line, " slow ") { // it calls 5 ms slow; how long epochs take is in the workers' metrics
			l.log.Debug(line)
			return
		}
		l.log.Warn(line)
	}
}

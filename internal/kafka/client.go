package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// options are those every client has.
func (c *Config) options(role string, log *slog.Logger) ([]kgo.Opt, error) {
	options := []kgo.Opt{
		kgo.SeedBrokers(c.Brokers...),
		kgo.ClientID(c.ClientID + "-" + role),
		kgo.WithLogger(&logger{log.With("client", role), &told}),
		kgo.MetadataMaxAge(30 * time.Second),
		kgo.MetadataMinAge(250 * time.Millisecond),
		kgo.RetryBackoffFn(backoff),
		kgo.RequestRetries(100), // a request's timeout ends its retries, not their number
		kgo.BrokerMaxReadBytes(128 << 20),
		kgo.DisableClientMetrics(),
		// A hole in the log (retention passed us, or the topic is another one) is filled from what is left.
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
	}
	if c.Dial != nil {
		options = append(options, kgo.Dialer(c.Dial))
	}
	if c.TLS.Enabled {
		config, err := c.TLS.load()
		if err != nil {
			return nil, err
		}
		options = append(options, kgo.DialTLSConfig(config))
	}
	if c.SASL.Mechanism != "" {
		if _, err := c.SASL.password(); err != nil {
			return nil, err
		}
		options = append(options, kgo.SASL(c.SASL.mechanism()))
	}
	return options, nil
}

const (
	minBackoff = 100 * time.Millisecond
	maxBackoff = 500 * time.Millisecond
)

// backoff is the wait after failures in a row. When a broker dies the requests of an epoch wait for their new leaders
// and coordinators one after the other, a heartbeat among them, and each wastes up to the last wait: with the client's
// own, 5 s at the most, longer than the brokers needed.
func backoff(failures int) time.Duration {
	wait := min(minBackoff<<min(max(failures-1, 0), 10), maxBackoff)
	return wait*4/5 + rand.N(wait*2/5)
}

func (t *TLS) load() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read kafka.tls.ca_file: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read kafka.tls.ca_file %s: no PEM certificate in it", t.CAFile)
		}
	}
	if t.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("load kafka.tls.cert_file and key_file: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

func (s *SASL) password() (string, error) {
	if s.PasswordFile == "" {
		return s.Password.Reveal(), nil
	}
	text, err := os.ReadFile(s.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("read kafka.sasl.password_file: %w", err)
	}
	return strings.TrimRight(string(text), "\r\n"), nil
}

func (s *SASL) mechanism() sasl.Mechanism {
	if s.Mechanism == "plain" {
		return plain.Plain(func(context.Context) (plain.Auth, error) {
			password, err := s.password()
			return plain.Auth{User: s.Username, Pass: password}, err
		})
	}
	auth := func(context.Context) (scram.Auth, error) {
		password, err := s.password()
		return scram.Auth{User: s.Username, Pass: password}, err
	}
	if s.Mechanism == "scram-sha-256" {
		return scram.Sha256(auth)
	}
	return scram.Sha512(auth)
}

// batchLimit sets the largest batch by topic, as the topics are created.
func (t *Topics) batchLimit() kgo.Opt {
	limits := map[string]int32{}
	t.each(func(_ string, topic *Topic) { limits[topic.Name] = int32(topic.MaxMessage) })
	return kgo.ProducerBatchMaxBytesFn(func(topic string) int32 {
		if limit, ok := limits[topic]; ok {
			return limit
		}
		return 1_000_012 // the brokers' default
	})
}

// logger passes the client's warnings on; what it calls information is detail to us. Clients repeat themselves, and each
// other, at each of many attempts while a broker is down: the same warning is told once in repeatAfter, with how often
// it came meanwhile.
type logger struct {
	log  *slog.Logger
	told *warnings
}

// told is what all clients of this process have warned of.
var told warnings

// warnings are told once in a while. Safe for concurrent use.
type warnings struct {
	mu   sync.Mutex
	last map[string]warning // by message and broker; the client has some dozens
}

// warning is what was told of one.
type warning struct {
	at      time.Time
	omitted int // since then
}

const repeatAfter = 10 * time.Second

func (l *logger) Level() kgo.LogLevel {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		return kgo.LogLevelInfo
	}
	return kgo.LogLevelWarn
}

func (l *logger) Log(level kgo.LogLevel, message string, pairs ...any) {
	if level > kgo.LogLevelWarn {
		l.log.Debug(message, pairs...)
		return
	}
	omitted, tell := l.told.again(message+address(pairs), repeatAfter)
	if !tell {
		return
	}
	if omitted > 0 {
		pairs = append(pairs[:len(pairs):len(pairs)], "omitted", omitted)
	}
	l.log.Warn(message, pairs...)
}

// address is the broker's that a warning is about, when the client names one.
func address(pairs []any) string {
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i] == "addr" {
			return fmt.Sprint(" ", pairs[i+1])
		}
	}
	return ""
}

// again says whether to tell a warning, and how often it was not told since the last time, which is at least a while ago
// or was of another clock.
func (w *warnings) again(of string, while time.Duration) (omitted int, tell bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now, last := time.Now(), w.last[of]
	if since := now.Sub(last.at); 0 <= since && since < while {
		last.omitted++
		w.last[of] = last
		return 0, false
	}
	if w.last == nil {
		w.last = map[string]warning{}
	}
	w.last[of] = warning{at: now}
	return last.omitted, true
}

// closeReader closes a client that reads partitions of a topic without a group. It takes them from the client first:
// when the first answer on where they are arrives during kgo.Client.Close, the client begins to read them (franz-go
// 1.22.2), with the fetch sessions that Close is ending.
func closeReader(client *kgo.Client, topic string, partitions ...int32) {
	client.RemoveConsumePartitions(map[string][]int32{topic: partitions})
	client.Close()
}

// fetchErrors sorts what a poll reported: nil when only the deadline ended it, and otherwise the first error
// the client does not recover from by itself.
func fetchErrors(fetches kgo.Fetches, log *slog.Logger) error {
	var first error
	fetches.EachError(func(topic string, partition int32, err error) {
		var loss *kgo.ErrDataLoss
		switch {
		case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		case errors.As(err, &loss):
			log.Error("records lost by the broker: offsets were reset", "topic", topic, "partition", partition, "err", err)
		case first != nil:
		case kgo.IsRetryableBrokerErr(err):
			log.Warn("fetch failed, trying again", "topic", topic, "partition", partition, "err", err)
		case topic == "":
			first = explain(err)
		default:
			first = fmt.Errorf("fetch %s/%d: %w", topic, partition, explain(err))
		}
	})
	return first
}

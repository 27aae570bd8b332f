package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/kafka"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/testkit"
)

// letter is a dead letter as the pipeline writes it.
func letter(cfg kafka.Config, n int, reason, source string, partition int, events string) *kgo.Record {
	return &kgo.Record{
		Topic: cfg.Topics.DLQ.Name, Key: []byte("acme#3"), Value: fmt.Appendf(nil, "value%d", n),
		Headers: []kgo.RecordHeader{
			{Key: "content-type", Value: []byte("application/json")}, {Key: pipeline.HeaderOnly, Value: []byte("99")},
			{Key: pipeline.HeaderDLQReason, Value: []byte(reason)}, {Key: pipeline.HeaderDLQDetail, Value: []byte("because")},
			{Key: pipeline.HeaderDLQTopic, Value: []byte(source)}, {Key: pipeline.HeaderDLQPartition, Value: fmt.Append(nil, partition)},
			{Key: pipeline.HeaderDLQOffset, Value: fmt.Append(nil, 1000+n)}, {Key: pipeline.HeaderDLQEvents, Value: []byte(events)},
		},
	}
}

func TestListAndShowDeadLetters(t *testing.T) {
	_, cfg := fake(t)
	metrics, logs := cfg.Topics.Metrics.Name, cfg.Topics.Logs.Name
	start := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	var all []*kgo.Record
	for i := range 300 {
		r := letter(cfg, i, "not_json", metrics, i%4, "")
		if i%3 == 0 {
			r = letter(cfg, i, "nan", logs, 1, "3,17")
		}
		r.Timestamp = start.Add(time.Duration(i) * time.Second)
		all = append(all, r)
	}
	all[299].Key = []byte("other")
	produceRecords(t, cfg, all...)
	dead := kafka.NewDeadLetters(cfg, quiet())

	f := func(want int, first, last string, filter kafka.Filter, limit int) {
		t.Helper()
		got, err := dead.List(deadline(t), filter, limit)
		if err != nil || len(got) != want {
			t.Fatalf("list %+v: got %d and %v, want %d", filter, len(got), err, want)
		}
		if want > 0 && (string(got[0].Value) != first || string(got[want-1].Value) != last) {
			t.Errorf("list %+v: got %s to %s, want %s to %s", filter, got[0].Value, got[want-1].Value, first, last)
		}
	}
	f(300, "value0", "value299", kafka.Filter{}, 1000)
	f(10, "value290", "value299", kafka.Filter{}, 10)
	f(100, "value0", "value297", kafka.Filter{Reason: "nan"}, 1000)
	f(200, "value1", "value299", kafka.Filter{Topic: metrics}, 1000)
	f(1, "value299", "value299", kafka.Filter{Tenant: "other"}, 1000)
	f(10, "value200", "value209", kafka.Filter{Since: start.Add(200 * time.Second), Until: start.Add(210 * time.Second)}, 1000)
	f(0, "", "", kafka.Filter{Tenant: "nobody"}, 10)

	got, err := dead.Show(deadline(t), kafka.Position{Partition: 0, Offset: 3})
	if err != nil {
		t.Fatalf("show: %v", err)
	}
	if got.Reason != "nan" || got.Detail != "because" || got.SourceTopic != logs || got.SourcePartition != 1 || got.SourceOffset != 1003 ||
		got.Events != "3,17" || got.Tenant() != "acme" || string(got.Value) != "value3" || len(got.Headers) != 2 {
		t.Errorf("show: got %+v", got)
	}
	for _, at := range []kafka.Position{{Partition: 0, Offset: 300}, {Partition: 5, Offset: 0}} {
		if _, err := dead.Show(deadline(t), at); !errors.Is(err, kafka.ErrNoDeadLetter) {
			t.Errorf("show %v: got %v, want ErrNoDeadLetter", at, err)
		}
	}
}

func TestListWithoutDeadLetters(t *testing.T) {
	_, cfg := fake(t)
	if got, err := kafka.NewDeadLetters(cfg, quiet()).List(deadline(t), kafka.Filter{}, 10); err != nil || len(got) > 0 {
		t.Errorf("list: got %v, %v, want nothing", got, err)
	}
}

// Who asks before a service has ever run reads what is missing, not the name of a protocol error.
func TestNoDeadLetterTopic(t *testing.T) {
	_, cfg := fake(t)
	cfg.Topics.DLQ.Name = "absent.v1"
	_, err := kafka.NewDeadLetters(cfg, quiet()).List(deadline(t), kafka.Filter{}, 10)
	if err == nil || !strings.Contains(err.Error(), "topic "+cfg.Topics.DLQ.Name+" does not exist") {
		t.Errorf("got %v, want that the topic does not exist", err)
	}
}

func replay(t *testing.T, cfg kafka.Config, selection kafka.Selection) kafka.Replayed {
	t.Helper()
	done, err := kafka.NewDeadLetters(cfg, quiet()).Replay(deadline(t), selection)
	if err != nil {
		t.Fatalf("replay: %v", err)
	}
	return done
}

func testReplay(t *testing.T, cfg kafka.Config) {
	metrics := cfg.Topics.Metrics.Name
	stamped := letter(cfg, 2, "nan", metrics, 3, "3,17")
	when := time.UnixMilli(1_700_000_000_123)
	stamped.Headers = append(stamped.Headers, kgo.RecordHeader{Key: pipeline.HeaderDLQTimestamp, Value: fmt.Append(nil, when.UnixMilli())})
	omitted := letter(cfg, 4, "record_too_large", metrics, 0, "")
	omitted.Value = nil
	omitted.Headers = append(omitted.Headers, kgo.RecordHeader{Key: pipeline.HeaderDLQOmitted, Value: []byte("5000000")})
	produceRecords(t, cfg, letter(cfg, 0, "not_json", metrics, 1, ""), letter(cfg, 1, "nan", "somebody.elses", 0, ""), stamped, letter(cfg, 3, "nan", metrics, 77, ""), omitted)

	if got, want := replay(t, cfg, kafka.Selection{DryRun: true}), (kafka.Replayed{Matched: 5, Replayed: 3, Unreplayable: 2}); got != want {
		t.Errorf("dry run: got %+v, want %+v", got, want)
	}
	if got, want := replay(t, cfg, kafka.Selection{At: []kafka.Position{{Offset: 2}, {Offset: 2}}}), (kafka.Replayed{Matched: 1, Replayed: 1}); got != want {
		t.Errorf("one: got %+v, want %+v", got, want)
	}
	if got, want := replay(t, cfg, kafka.Selection{}), (kafka.Replayed{Matched: 5, Replayed: 2, Already: 1, Unreplayable: 2}); got != want {
		t.Errorf("all: got %+v, want %+v", got, want)
	}
	if got, want := replay(t, cfg, kafka.Selection{}), (kafka.Replayed{Matched: 5, Already: 3, Unreplayable: 2}); got != want {
		t.Errorf("all again: got %+v, want %+v", got, want)
	}
	events := visible(t, cfg, metrics, 3)
	slices.SortFunc(events, func(a, b *kgo.Record) int { return strings.Compare(string(a.Value), string(b.Value)) })
	if len(events) != 3 {
		t.Fatalf("replayed events: got %d, want 3", len(events))
	}
	whole, some := events[0], events[1]
	if whole.Partition != 1 || string(whole.Key) != "acme#3" || len(whole.Headers) != 1 || header(whole, "content-type") == "" {
		t.Errorf("whole record: got %+v, want the original", whole)
	}
	if some.Partition != 3 || header(some, pipeline.HeaderOnly) != "3,17" || len(some.Headers) != 2 || !some.Timestamp.Equal(when) {
		t.Errorf("record with some events: got %+v, want vigie-only 3,17 and its own time", some)
	}
	if _, err := kafka.NewDeadLetters(cfg, quiet()).Replay(deadline(t), kafka.Selection{At: []kafka.Position{{Offset: 999}}}); !errors.Is(err, kafka.ErrNoDeadLetter) {
		t.Errorf("replay of what is not there: got %v, want ErrNoDeadLetter", err)
	}
}

// Runs are killed at any moment and started again, some while another runs: each dead letter is replayed once.
func testReplayKilled(t *testing.T, cfg kafka.Config) {
	const rounds, each = 20, 100
	dead := kafka.NewDeadLetters(cfg, quiet())
	killed, fenced, letters := 0, 0, 0
	lasts := time.Minute // a run that nobody cuts off, about
	for round := range rounds {
		var some []*kgo.Record
		for range each {
			some = append(some, letter(cfg, letters, "nan", cfg.Topics.Metrics.Name, letters%4, "1"))
			letters++
		}
		produceRecords(t, cfg, some...)
		patience := time.Minute
		if round > 0 {
			patience = rand.N(lasts + lasts/4)
		}
		ctx, cancel := context.WithTimeout(deadline(t), patience)
		rival, pause := make(chan error, 1), rand.N(lasts)
		go func() {
			var err error
			if round%3 == 2 {
				time.Sleep(pause)
				_, err = dead.Replay(ctx, kafka.Selection{})
			}
			rival <- err
		}()
		began := time.Now()
		_, err := dead.Replay(ctx, kafka.Selection{})
		if err == nil {
			lasts = max(time.Since(began), 10*time.Millisecond)
		}
		for _, err := range []error{err, <-rival} {
			if errors.Is(err, kafka.ErrFenced) {
				fenced++
			} else if err != nil {
				killed++
			}
		}
		cancel()
	}
	last := replay(t, cfg, kafka.Selection{})
	if got := last.Replayed + last.Already; got != letters {
		t.Errorf("last run: got %+v, want %d together", last, letters)
	}
	times := map[string]int{}
	for _, r := range visible(t, cfg, cfg.Topics.Metrics.Name, letters) {
		times[string(r.Value)]++
	}
	for i := range letters {
		if got := times[fmt.Sprintf("value%d", i)]; got != 1 {
			t.Fatalf("value%d: got it replayed %d times, want once", i, got)
		}
	}
	t.Logf("%d runs killed, %d fenced; the last replayed %d of %d", killed, fenced, last.Replayed, letters)
	if killed < 3 {
		t.Errorf("got %d of %d runs killed: the test proves little", killed, rounds)
	}
}

func TestReplayOnKfake(t *testing.T) {
	t.Run("twice", func(t *testing.T) { _, cfg := fake(t); testReplay(t, cfg) })
	t.Run("killed", func(t *testing.T) { _, cfg := fake(t); testReplayKilled(t, cfg) })
}

func TestReplayOnApacheKafka(t *testing.T) {
	broker := testkit.ApacheKafka(t)
	for name, test := range map[string]func(*testing.T, kafka.Config){"twice": testReplay, "killed": testReplayKilled} {
		t.Run(name, func(t *testing.T) {
			leaks(t)
			test(t, install(t, strings.Split(broker.Addr, ",")...))
		})
	}
}

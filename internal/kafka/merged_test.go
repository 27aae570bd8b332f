package kafka_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/coarse"
	"github.com/vigie-io/vigie/internal/kafka"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/verify"
)

// blockOf is a record of a topic of results.
func blockOf(topic kafka.Topic, partition int32, table, value string) *kgo.Record {
	return &kgo.Record{Topic: topic.Name, Partition: partition, Value: []byte(value), Headers: []kgo.RecordHeader{
		{Key: pipeline.HeaderTable, Value: []byte(table)}, {Key: pipeline.HeaderRows, Value: []byte("1")}}}
}

// stored commits that the group of a sink has stored a topic up to its present end.
func stored(t *testing.T, cfg kafka.Config, role string, topic kafka.Topic) {
	t.Helper()
	offsets := kadm.Offsets{}
	for partition, end := range endOffsets(t, cfg, topic.Name) {
		offsets.AddOffset(topic.Name, partition, end, -1)
	}
	if err := kadmOf(t, cfg).CommitAllOffsets(deadline(t), cfg.Group+"-"+role, offsets); err != nil {
		t.Fatal(err)
	}
}

// Who waits for merged rows waits until the mergers have passed the results that were there, and the sink what they made
// of them; who does not, does not. Results that nobody merges hold nothing up.
func TestSourceTopicSettlesMerged(t *testing.T) {
	_, cfg := fake(t)
	topics := &cfg.Topics
	settle := func(merged bool, wait time.Duration) error {
		topic := kafka.NewSourceTopic(cfg, topics.Metrics.Name, wait, quiet())
		if merged {
			topic.AwaitMerged()
		}
		return topic.Settle(t.Context(), nil)
	}
	behind := func(at, want string) {
		t.Helper()
		err := settle(true, 500*time.Millisecond)
		if !errors.Is(err, kafka.ErrBehind) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "is stream running?") {
			t.Errorf("%s: got %v, want ErrBehind and %q", at, err, want)
		}
		if err := settle(false, time.Minute); err != nil {
			t.Errorf("%s: without merged rows: %v", at, err)
		}
	}
	produceRecords(t, cfg, blockOf(topics.Results, 1, pipeline.TableRollups, "for all tiers"), blockOf(topics.Results, 1, pipeline.TableProgress, ""))
	stored(t, cfg, "sink", topics.Results)
	if err := settle(true, time.Minute); err != nil {
		t.Errorf("nothing to merge: %v", err)
	}

	produceRecords(t, cfg, blockOf(topics.Results, 1, pipeline.TablePanes, "a"), blockOf(topics.Results, 1, pipeline.TablePanes, "b"))
	stored(t, cfg, "sink", topics.Results)
	behind("no merger ran", "mergers on topic "+topics.Results.Name+" (partition 1 is at 2 of 4)")
	produceRecords(t, cfg, &kgo.Record{Topic: topics.StateCoarse.Name, Partition: 1, Key: []byte("position"), Value: []byte("1 another 99")})
	behind("mergers have read another topic of that name", "partition 1 is at 2 of 4")

	merging, stop := context.WithCancel(t.Context())
	committed := make(chan error, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- kafka.RunCoarseShards(merging, cfg, quiet(), func(ctx context.Context, s *kafka.CoarseShard) error {
			if s.Position().Partition == 1 {
				if err := s.Commit(ctx, []coarse.Block{{Table: coarse.TableMinutes, Rows: 1, Value: []byte("a")}}, 3); err != nil {
					return err
				}
				committed <- s.Commit(ctx, []coarse.Block{{Table: coarse.TableMinutes, Rows: 1, Value: []byte("b")}}, 3)
			}
			<-ctx.Done()
			return nil
		})
	}()
	if err := <-committed; err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	behind("a merger is in the midst", "partition 1 is at 3 of 4")

	id := topicIDOf(t, cfg, topics.Results)
	produceRecords(t, cfg, &kgo.Record{Topic: topics.StateCoarse.Name, Partition: 1, Key: []byte("position"), Value: []byte("1 " + id + " 4")})
	behind("merged and not stored", "group "+cfg.Group+"-sink-coarse on topic "+topics.Coarse.Name)
	stored(t, cfg, "sink-coarse", topics.Coarse)
	if err := settle(true, time.Minute); err != nil {
		t.Errorf("merged and stored: %v", err)
	}
}

func topicIDOf(t *testing.T, cfg kafka.Config, topic kafka.Topic) string {
	t.Helper()
	details, err := kadmOf(t, cfg).ListTopics(deadline(t), topic.Name)
	if err != nil {
		t.Fatal(err)
	}
	id := details[topic.Name].ID
	return base64.RawURLEncoding.EncodeToString(id[:])
}

// All results that fill a table are found, in whatever order they come.
func TestResultsOfTables(t *testing.T) {
	_, cfg := fake(t)
	topics := &cfg.Topics
	produceRecords(t, cfg,
		blockOf(topics.Results, 0, pipeline.TableRollups, "all"), blockOf(topics.Results, 0, pipeline.TableSeries, "other"),
		blockOf(topics.Results, 0, pipeline.TableRollups, "all again"), blockOf(topics.Results, 0, pipeline.TablePanes, "narrow"),
		blockOf(topics.Results, 0, pipeline.TableRollups, "all later"), blockOf(topics.Results, 1, pipeline.TablePanes, "narrow"),
		blockOf(topics.Results, 2, pipeline.TableProgress, ""), blockOf(topics.Results, 2, pipeline.TableRollups, "all"),
		blockOf(topics.Coarse, 0, coarse.TableMinutes, "merged"), blockOf(topics.Coarse, 3, coarse.TableMerged, "other"),
		blockOf(topics.Coarse, 3, coarse.TableMinutes, "merged"))
	results, merged := topicIDOf(t, cfg, topics.Results), topicIDOf(t, cfg, topics.Coarse)
	for _, table := range verify.Tables() {
		want := [][]string{{results + "/0/0/ingest_rollups all", results + "/0/2/ingest_rollups all again", results + "/0/3/ingest_panes narrow",
			results + "/0/4/ingest_rollups all later", results + "/1/0/ingest_panes narrow", results + "/2/1/ingest_rollups all"}}
		if table.Width > 10 {
			want = [][]string{{merged + "/0/0/ingest_minutes merged", merged + "/3/1/ingest_minutes merged"},
				{results + "/0/0/ingest_rollups all", results + "/0/2/ingest_rollups all again",
					results + "/0/4/ingest_rollups all later", results + "/2/1/ingest_rollups all"}}
		}
		var got [][]string
		for _, of := range kafka.ResultsOf(cfg, table, time.Minute, quiet()) {
			span, err := of.Span(t.Context(), time.Time{})
			if err != nil {
				t.Fatal(err)
			}
			var blocks []string
			err = of.Blocks(t.Context(), span.From, span.To, func(b *verify.Block) error {
				if !strings.HasSuffix(b.Token, "/"+b.Ingest) || b.Rows != 1 {
					t.Errorf("got block %+v, want one row and the table of its token", b)
				}
				blocks = append(blocks, fmt.Sprintf("%s %s", b.Token, b.Bytes))
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, slices.Sorted(slices.Values(blocks)))
		}
		if !slices.EqualFunc(got, want, slices.Equal) {
			t.Errorf("%s: got %q, want %q", table.Name, got, want)
		}
	}
}

// Merged records are stored when the group of their own sink has passed them.
func TestMergedResultsSettle(t *testing.T) {
	_, cfg := fake(t)
	topics := &cfg.Topics
	produceRecords(t, cfg, blockOf(topics.Results, 0, pipeline.TableRollups, "all"), blockOf(topics.Coarse, 0, coarse.TableMinutes, "merged"))
	settle := func(at, name string) (behind int) {
		t.Helper()
		i := slices.IndexFunc(verify.Tables(), func(table verify.Table) bool { return table.Name == name })
		for _, of := range kafka.ResultsOf(cfg, verify.Tables()[i], 300*time.Millisecond, quiet()) {
			if err := of.Settle(t.Context(), verify.Offsets{0: 1}); errors.Is(err, kafka.ErrBehind) {
				behind++
			} else if err != nil {
				t.Errorf("%s: %v", at, err)
			}
		}
		return behind
	}
	f := func(at string, narrow, wide int) {
		t.Helper()
		if got := settle(at, "rollups_10s"); got != narrow {
			t.Errorf("%s: got %d results of rollups_10s behind, want %d", at, got, narrow)
		}
		if got := settle(at, "services_1h"); got != wide {
			t.Errorf("%s: got %d results of services_1h behind, want %d", at, got, wide)
		}
	}
	f("nothing stored", 1, 2)
	stored(t, cfg, "sink-coarse", topics.Coarse)
	f("merged stored", 1, 1)
	stored(t, cfg, "sink", topics.Results)
	f("all stored", 0, 0)
}

package kafka_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/kafka"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/testkit"
)

func TestHostileBatches(t *testing.T) {
	t.Run("fake", func(t *testing.T) {
		_, cfg := fake(t)
		testHostileBatches(t, cfg)
	})
	t.Run("Apache Kafka", func(t *testing.T) {
		broker := testkit.ApacheKafka(t)
		leaks(t)
		testHostileBatches(t, install(t, strings.Split(broker.Addr, ",")...))
	})
}

// Whoever may write to a topic writes batches that take a thousand times their size: each is one dead letter, and
// everything around them is counted once, also after a restart; who counts again finds the same.
func testHostileBatches(t *testing.T, cfg kafka.Config) {
	cfg.MaxUnpacked = 2 << 20
	topic, hostile := cfg.Topics.Metrics.Name, client(t, cfg)
	event, zeros := []byte(`{"name":"m","value":1}`), make([]byte, 1<<20)
	sent, refused := 0, []string{}
	good := func(n int) {
		t.Helper()
		send(t, cfg, 0, n)
		sent += n
	}
	write := func(p testkit.Packed) {
		t.Helper()
		if err := p.Produce(deadline(t), hostile, topic, 0); err != nil {
			t.Fatal(err)
		}
	}
	bad := func(p testkit.Packed, detail string) {
		t.Helper()
		write(p)
		refused = append(refused, detail)
	}
	good(3)
	bad(testkit.Pack(t, kgo.ZstdCompression(), 3, nil, zeros, 0), "batch of 3 records at offsets 3 to 5, ")
	bad(testkit.Pack(t, kgo.GzipCompression(), 3, nil, zeros, 0), " of gzip: it unpacks to more than kafka.max_unpacked (2MiB)")
	good(1)
	bad(testkit.Pack(t, kgo.SnappyCompression(), 3, nil, zeros, 0), " of snappy: it unpacks to more than")
	bad(testkit.Pack(t, kgo.Lz4Compression(), 3, nil, zeros, 0), " of lz4: it unpacks to more than")
	bad(testkit.Pack(t, kgo.Lz4Compression(), 150_000, nil, nil, 0), "batch of 150000 records")
	bad(testkit.Pack(t, kgo.ZstdCompression(), 1, nil, nil, 600_000), "its records and headers take more than 4 times")
	write(testkit.Pack(t, kgo.Lz4Compression(), 10_000, []byte("acme"), event, 0)) // large, and as it should be
	sent += 10_000
	e := employ(t, cfg)
	e.counted(sent)
	e.stop()
	bad(testkit.Pack(t, kgo.ZstdCompression(), 3, nil, zeros, 0), " of zstd: it unpacks to more than")
	e = employ(t, cfg)
	await(t, "the last letter", func() bool { return len(committed(t, cfg, cfg.Topics.DLQ.Name)) >= len(refused) })
	e.stop()
	good(2)
	e = employ(t, cfg)
	e.counted(sent)

	letters := committed(t, cfg, cfg.Topics.DLQ.Name)
	if len(letters) != len(refused) {
		t.Fatalf("dead letters: got %d, want %d", len(letters), len(refused))
	}
	// Letters of several epochs may be in several partitions of their topic: order them as their batches are.
	slices.SortFunc(letters, func(a, b *kgo.Record) int { return int(offsetOf(t, a) - offsetOf(t, b)) })
	var want []int64
	for i, letter := range letters {
		want = append(want, offsetOf(t, letter))
		if header(letter, pipeline.HeaderDLQReason) != string(pipeline.ReasonBadBatch) ||
			!strings.Contains(header(letter, pipeline.HeaderDLQDetail), refused[i]) ||
			header(letter, pipeline.HeaderDLQOmitted) == "" || letter.Value != nil {
			t.Errorf("letter %d: got %s: %s, want bad_batch: %s",
				i, header(letter, pipeline.HeaderDLQReason), header(letter, pipeline.HeaderDLQDetail), refused[i])
		}
	}
	recount := func(end map[int32]int64) (events int, batches []int64) {
		t.Helper()
		err := kafka.NewSourceTopic(cfg, topic, time.Second, quiet()).Records(deadline(t), map[int32]int64{0: 0}, end, func(_ int32, r *pipeline.Record) error {
			if r.BadBatch != nil {
				batches = append(batches, r.Offset)
			} else {
				events++
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return events, batches
	}
	if n, batches := recount(endOffsets(t, cfg, topic)); n != sent || !slices.Equal(batches, want) {
		t.Errorf("counted again: got %d events and batches before %v, want %d and %v", n, batches, sent, want)
	}
	if n, batches := recount(map[int32]int64{0: want[0] + 1}); n != 3 || !slices.Equal(batches, want[:1]) {
		t.Errorf("counted again up to the first batch: got %d events and batches before %v, want 3 and %v", n, batches, want[:1])
	}
}

func offsetOf(t *testing.T, letter *kgo.Record) int64 {
	t.Helper()
	offset, err := strconv.ParseInt(header(letter, pipeline.HeaderDLQOffset), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return offset
}

// Apache Kafka takes no batch that it cannot unpack itself. What comes of one that a disk has damaged is that of one
// that is too large.
func TestDamagedBatches(t *testing.T) {
	_, cfg := fake(t)
	topic, hostile := cfg.Topics.Metrics.Name, client(t, cfg)
	damaged := testkit.Pack(t, kgo.ZstdCompression(), 2, []byte("acme"), []byte(`{"name":"m","value":1}`), 0)
	damaged.Bytes[len(damaged.Bytes)/2] ^= 0x55
	garbage := testkit.Packed{Codec: kgo.CodecSnappy, Records: 2, Bytes: []byte("no snappy at all")}
	send(t, cfg, 0, 2)
	for _, p := range []testkit.Packed{damaged, garbage} {
		if err := p.Produce(deadline(t), hostile, topic, 0); err != nil {
			t.Fatal(err)
		}
	}
	send(t, cfg, 0, 3)
	e := employ(t, cfg)
	e.counted(5)
	if got := len(committed(t, cfg, cfg.Topics.DLQ.Name)); got != 2 {
		t.Errorf("dead letters: got %d, want 2", got)
	}
}

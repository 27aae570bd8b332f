package kafka_test

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/testkit"
)

// Events without a time take their record's. One after 2262 is refused for that, and not for having none.
func TestRecordsOfTheFarFuture(t *testing.T) {
	_, cfg := fake(t)
	hostile := client(t, cfg)
	for _, year := range []int{2263, 2554, 2555, 3000, 9999} { // nanoseconds wrap around in 2262, and again in 2554
		for _, with := range []kgo.CompressionCodec{kgo.NoCompression(), kgo.Lz4Compression()} { // records by themselves, and in their batch
			p := testkit.Pack(t, with, 2, []byte("acme"), []byte(`{"name":"m","value":1}`), 0)
			p.Millis = time.Date(year, 12, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
			if err := p.Produce(deadline(t), hostile, cfg.Topics.Metrics.Name, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	send(t, cfg, 0, 2)
	e := employ(t, cfg)
	e.counted(2)
	letters := committed(t, cfg, cfg.Topics.DLQ.Name)
	for _, letter := range letters {
		if got := header(letter, pipeline.HeaderDLQReason); got != "too_new" {
			t.Errorf("got %s: %s, want too_new", got, header(letter, pipeline.HeaderDLQDetail))
		}
	}
	if len(letters) != 20 {
		t.Errorf("dead letters: got %d, want 20", len(letters))
	}
}

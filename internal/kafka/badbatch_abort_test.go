package kafka

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/testkit"
)

// A batch that was refused in an epoch that is aborted is refused in the next, whether or not records were polled
// before it; one whose epoch commits never comes again, and records behind it do.
func TestRefusedBatchesAndAborts(t *testing.T) {
	ctx, _, cfg := onFake(t)
	cfg.MaxUnpacked = 1 << 20
	f := newFeed(t, ctx, cfg)
	hostile := testkit.Pack(t, kgo.ZstdCompression(), 3, nil, make([]byte, 1<<20), 0)
	write := func() {
		t.Helper()
		if err := hostile.Produce(ctx, f.producer, cfg.Topics.Metrics.Name, 0); err != nil {
			t.Fatal(err)
		}
	}
	// polled is an e for each event and a b for each batch, until there are so many.
	polled := func(n int) (what string) {
		t.Helper()
		for len(what) < n && ctx.Err() == nil {
			waiting, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
			fetch, err := f.Poll(waiting)
			cancel()
			if errors.Is(err, pipeline.ErrMoved) { // nothing of the partition had been committed or polled before
				f.Close()
				f = newFeed(t, ctx, cfg)
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			f.Release(fetch.Assigned...)
			for _, c := range fetch.Chunks {
				for _, r := range c.Records {
					if r.BadBatch != nil {
						what += "b"
					} else {
						what += "e"
					}
				}
				what += strings.Repeat("e", c.Unread.Len)
			}
		}
		return what
	}
	expect := func(want string) {
		t.Helper()
		if got := polled(len(want)); got != want {
			t.Fatalf("polled: got %q, want %q", got, want)
		}
	}
	abort := func() {
		t.Helper()
		f.revoked.Add(1)
		f.commit(false)
	}
	for range 2 {
		write()
		expect("b")
		abort()
		expect("b")
		abort()
		expect("b")
		f.commit(true)

		f.send()
		write()
		expect("eb")
		abort()
		expect("eb")
		f.commit(true)
		idle := []pipeline.Message{{Topic: cfg.Topics.Results.Name, Partition: f.ResultPartition(),
			Value: []byte("by time alone")}}
		if committed, err := f.Commit(ctx, idle); err != nil || !committed { // commits an offset again
			t.Fatalf("commit: got %v, %v, want true", committed, err)
		}
		f.Close()
		f = newFeed(t, ctx, cfg)
		f.send()
		expect("e")
		f.commit(true)
		f.Close()
		f = newFeed(t, ctx, cfg)
	}
	f.send()
	expect("e")
}

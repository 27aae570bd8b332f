// Command peers runs what a team would write, or take, instead of Vigie: one Go program a name, over a Kafka topic that
// package bench/compare has filled. It is a module of its own, so that what it needs is no dependency of the product.
//
// A peer reads the topic from its beginning until it has read -records, does what it does with them, and prints one
// JSON object: what it counted and what it cost. The job of those that aggregate: JSON events → key = tenant, name,
// labels → tumbling windows of 10 s of event time, closed 5 s behind the newest event of the partition that is farthest
// behind → count, sum, minimum, maximum, a DDSketch of α 0.0054 → one JSON result a series and window, to a topic.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// peer takes the records of a topic.
type peer interface {
	// take gets one record; its bytes are the caller's again afterwards.
	take(partition int32, value []byte)
	// polled is called between polls, with nothing held of the last.
	polled() error
	// finish ends all windows, and says what was counted.
	finish() (report, error)
}

// report is what a run prints.
type report struct {
	Records  int     `json:"records"`  // read
	Counted  int     `json:"counted"`  // events in the results
	Bad      int     `json:"bad"`      // not decoded
	Late     int     `json:"late"`     // behind their windows' end
	Results  int     `json:"results"`  // of series and windows
	CPU      float64 `json:"cpu"`      // seconds of processor time of the whole process, user and system
	Wall     float64 `json:"wall"`     // seconds from the first poll to the end
	Allocs   float64 `json:"allocs"`   // an event
	Resident int64   `json:"resident"` // most bytes
}

func main() {
	brokers := flag.String("brokers", "127.0.0.1:7092", "Kafka brokers, separated by commas")
	topic := flag.String("topic", "", "topic of events")
	results := flag.String("results", "", "topic of results")
	name := flag.String("peer", "", "null, encoding-json, fastjson, streamaggr, goka")
	records := flag.Int("records", 0, "records to read")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	r, err := run(ctx, strings.Split(*brokers, ","), *topic, *results, *name, *records)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(r)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, brokers []string, topic, results, name string, records int) (report, error) {
	if name == "goka" {
		return runGoka(ctx, brokers, topic, results, records) // brings a Kafka client of its own
	}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topic),
		kgo.ConsumerGroup(fmt.Sprintf("%s-%s-%d", topic, name, time.Now().UnixNano())),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.AutoCommitMarks(), kgo.DefaultProduceTopic(results),
		kgo.ProducerBatchCompression(kgo.Lz4Compression()), kgo.ProducerLinger(5*time.Millisecond),
		kgo.MaxBufferedRecords(100_000),
	)
	if err != nil {
		return report{}, err
	}
	defer client.Close()
	p, err := newPeer(name, client)
	if err != nil {
		return report{}, err
	}
	start := time.Now()
	read := 0
	for read < records {
		fetches := client.PollFetches(ctx)
		if errs := fetches.Errors(); len(errs) > 0 {
			return report{}, errs[0].Err
		}
		for iter := fetches.RecordIter(); !iter.Done(); {
			r := iter.Next()
			p.take(r.Partition, r.Value)
			read++
		}
		if err := p.polled(); err != nil {
			return report{}, err
		}
		client.MarkCommitRecords(lastRecords(fetches)...)
	}
	r, err := p.finish()
	if err == nil {
		err = errors.Join(client.Flush(ctx), client.CommitMarkedOffsets(ctx))
	}
	r.Records, r.Wall = read, time.Since(start).Seconds()
	r.measure()
	return r, err
}

// lastRecords are the last of each partition: what is marked.
func lastRecords(fetches kgo.Fetches) (last []*kgo.Record) {
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		if n := len(p.Records); n > 0 {
			last = append(last, p.Records[n-1])
		}
	})
	return last
}

func (r *report) measure() {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	r.CPU = time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
	r.Resident = usage.Maxrss << 10
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	r.Allocs = float64(mem.Mallocs) / float64(max(r.Records, 1))
}

func newPeer(name string, client *kgo.Client) (peer, error) {
	switch name {
	case "null":
		return new(null), nil
	case "encoding-json":
		return &windowed{decode: decodeStandard, windows: newWindows(client)}, nil
	case "fastjson":
		return &windowed{decode: newFastDecoder(), windows: newWindows(client)}, nil
	case "streamaggr":
		return newAggregator()
	}
	return nil, fmt.Errorf("peer %q: want null, encoding-json, fastjson or streamaggr", name)
}

// null reads and counts: the floor.
type null struct{ counted int }

func (n *null) take(int32, []byte)      { n.counted++ }
func (n *null) polled() error           { return nil }
func (n *null) finish() (report, error) { return report{Counted: n.counted}, nil }

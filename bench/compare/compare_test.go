package compare

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// What TestCompare does is set by the environment; `make bench` sets it.
const (
	envRuns    = "VIGIE_BENCH_RUNS"   // file to append runs to; without it nothing is measured
	envCases   = "VIGIE_BENCH_CASES"  // separated by spaces, as "json/100000"
	envPeers   = "VIGIE_BENCH_PEERS"  // separated by spaces
	envEvents  = "VIGIE_BENCH_EVENTS" // of a log
	envRounds  = "VIGIE_BENCH_ROUNDS"
	envProfile = "VIGIE_BENCH_PROFILE" // file for a profile of Vigie at work; with ".allocs", of what it allocated
)

const partitions = 4

// bench is one log and those who read it.
type bench struct {
	broker *testkit.Broker
	client *kgo.Client
	admin  *kadm.Client
	of     string // case
	topic  string
	log    Tally
	bin    string // of Go peers
	dir    string // for what is built
}

// TestCompare lets the peers take turns over the log of each case, and appends a run of each to a file.
func TestCompare(t *testing.T) {
	path := os.Getenv(envRuns)
	if path == "" {
		t.Skipf("measures for minutes: `make bench` runs it (%s)", envRuns)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	broker := testkit.ApacheKafka(t)
	client, err := kgo.NewClient(kgo.SeedBrokers(broker.Addr), kgo.ProducerBatchCompression(kgo.Lz4Compression()),
		kgo.ProducerBatchMaxBytes(128<<10), kgo.ProducerLinger(20*time.Millisecond), kgo.MaxBufferedRecords(50_000))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	bin, dir := buildPeers(t), t.TempDir()
	round := time.Now().Unix()
	for _, of := range words(envCases, "json/10000 json/100000 json/100000/dense") {
		b := &bench{broker: broker, client: client, admin: kadm.NewClient(client), of: of, bin: bin, dir: dir}
		b.fill(t)
		for i := range number(t, envRounds, 3) {
			for _, peer := range words(envPeers,
				"vigie null encoding-json fastjson streamaggr goka clickhouse clickhouse-tdigest") {
				t.Run(fmt.Sprintf("%s/%d/%s", of, i, peer), func(t *testing.T) {
					r := Run{Round: round + int64(i), Peer: peer, Case: of, Load: load(t)}
					b.run(t, &r)
					if err := AppendRun(path, &r); err != nil {
						t.Fatal(err)
					}
					t.Logf("%s %s: %.0f k events/CPU-s, %.0f k events/s, %d results, %.3f allocs, %d MiB, ClickHouse %.0f ns, recovery %.1fs",
						of, peer, r.Rate()/1e3, float64(r.Events)/r.Wall/1e3, r.Results, r.Allocs, r.Resident>>20, r.ClickHouse/float64(r.Events)*1e9, r.Recovery)
				})
			}
		}
		b.drop(b.topic)
	}
}

func words(name, fallback string) []string {
	if text := os.Getenv(name); text != "" {
		return strings.Fields(text)
	}
	return strings.Fields(fallback)
}

func number(t *testing.T, name string, fallback int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return fallback
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%s: want a whole number above 0", name, text)
	}
	return n
}

func load(t *testing.T) (one float64) {
	t.Helper()
	text, err := os.ReadFile("/proc/loadavg")
	if err == nil {
		_, err = fmt.Sscan(string(text), &one)
	}
	if err != nil {
		t.Fatal(err)
	}
	return one
}

// buildPeers builds the Go peers, which are a module of their own.
func buildPeers(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "peers")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", path, ".")
	cmd.Dir = filepath.Join("..", "peers")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build bench/peers: %v\n%s", err, output)
	}
	return path
}

// workload is what a case's name says, parts of which may be left out: format/series/dense|zipf|churn|q12|q17|tsbs, or
// what Hostile has.
func (b *bench) workload(t *testing.T) Workload {
	t.Helper()
	format, series := caseOf(b.of)
	w := Workload{Series: series, Events: number(t, envEvents, 5_000_000)}
	w.Span = time.Duration(w.Events) * 20 * time.Microsecond
	for i, word := range strings.Fields(format) {
		switch {
		case i == 0:
			w.Format = word
		case word == "dense":
			w.Span = time.Duration(float64(w.Events) / float64(dense*w.Series) * float64(time.Second))
		case Shape(word) == Q12, Shape(word) == Q17, Shape(word) == TSBS:
			w.Shape = Shape(word)
		case word == "zipf":
			w.Zipf = true
		case word == "churn":
			w.Churn = 0.1
		default:
			w.Hostile = Hostile(word)
		}
	}
	return w
}

// fill makes the topic of the case.
func (b *bench) fill(t *testing.T) {
	t.Helper()
	w := b.workload(t)
	b.topic = fmt.Sprintf("bench.%s.%d", strings.ReplaceAll(b.of, "/", "."), time.Now().UnixNano())
	b.create(t, b.topic)
	began := time.Now()
	start := began.Add(-w.Span - time.Minute).Truncate(10 * time.Second)
	var failed error
	tally, err := w.Make(start, func(r Record) error {
		b.client.Produce(t.Context(), &kgo.Record{Topic: b.topic, Key: []byte(r.Tenant), Value: r.Value, Timestamp: time.UnixMilli(r.Time)}, func(_ *kgo.Record, err error) {
			if err != nil {
				failed = err // one goroutine calls promises
			}
		})
		return nil
	})
	if err == nil && w.Format == "json" {
		err = b.close(t, w, start, &tally)
	}
	if flushed := b.client.Flush(t.Context()); err != nil || flushed != nil || failed != nil {
		t.Fatalf("fill %s: %v %v %v", b.topic, err, flushed, failed)
	}
	b.log = tally
	t.Logf("%s: %d records, %d events, %d of them malformed, made in %s",
		b.of, tally.Records, tally.Events, tally.Malformed, time.Since(began).Round(time.Millisecond))
}

// close ends each partition with an event of half a minute later: what waits for time to go on closes its windows then.
// Its own is closed by those only that close all at the end.
func (b *bench) close(t *testing.T, w Workload, start time.Time, tally *Tally) error {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(b.broker.Addr), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return err
	}
	defer client.Close()
	if err := b.client.Flush(t.Context()); err != nil {
		return err
	}
	last := Last(start.Add(w.Span + 30*time.Second))
	for partition := range int32(partitions) {
		record := &kgo.Record{Topic: b.topic, Partition: partition, Key: []byte(last.Tenant), Value: last.Value,
			Timestamp: time.UnixMilli(last.Time)}
		if err := client.ProduceSync(t.Context(), record).FirstErr(); err != nil {
			return err
		}
		tally.Records, tally.Events = tally.Records+1, tally.Events+1
	}
	return nil
}

func (b *bench) create(t *testing.T, topic string) {
	t.Helper()
	largest := "4194304" // what Vigie asks of its topics
	if _, err := b.admin.CreateTopic(t.Context(), partitions, 1,
		map[string]*string{"max.message.bytes": &largest}, topic); err != nil {
		t.Fatal(err)
	}
}

// drop makes room. A run that failed may have left no topic.
func (b *bench) drop(topic string) { _, _ = b.admin.DeleteTopic(context.Background(), topic) }

func (b *bench) run(t *testing.T, r *Run) {
	t.Helper()
	switch {
	case !strings.HasPrefix(b.of, "json/") && r.Peer != "null" && !strings.HasPrefix(r.Peer, Vigie):
		t.Skip("reads JSON only")
	case strings.HasPrefix(r.Peer, Vigie):
		b.vigie(t, r)
	case javaMain[r.Peer] != "":
		b.java(t, r)
	case clickhouseSketches[r.Peer] != "":
		b.clickhouse(t, r)
	default:
		b.peer(t, r)
	}
}

// few is for peers that take their time: what part of the records they read.
var few = map[string]float64{"encoding-json": 0.4, "goka": 0.2}

// answer is what a peer prints.
type answer struct {
	Records, Counted, Bad, Late, Results int
	CPU, Wall, Allocs                    float64
	Resident                             int64
}

// peer runs one of bench/peers.
func (b *bench) peer(t *testing.T, r *Run) {
	t.Helper()
	results := b.topic + ".results"
	b.create(t, results)
	defer b.drop(results)
	records := b.log.Records
	if part := few[r.Peer]; part > 0 {
		records = int(float64(records) * part)
	}
	cmd := exec.CommandContext(t.Context(), b.bin, "-peer", r.Peer, "-brokers", b.broker.Addr, "-topic", b.topic, "-results",
		results, "-records", strconv.Itoa(records))
	a := b.answer(t, r.Peer, cmd)
	perRecord := float64(b.log.Events) / float64(b.log.Records)
	r.Events, r.Results, r.CPU, r.Wall, r.Allocs, r.Resident = int(float64(a.Records)*perRecord), a.Results, a.CPU, a.Wall, a.Allocs/perRecord, a.Resident
}

// answer runs a peer and returns what it says, checked.
func (b *bench) answer(t *testing.T, peer string, cmd *exec.Cmd) (a answer) {
	t.Helper()
	cmd.Stderr = os.Stderr
	output, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(output, &a); err != nil {
		t.Fatalf("%s: %v in %s", peer, err, output)
	}
	b.check(t, peer, &a)
	return a
}

// check holds a peer to its count: each record is in a result, bad or late.
func (b *bench) check(t *testing.T, peer string, a *answer) {
	t.Helper()
	if a.Counted+a.Bad+a.Late != a.Records {
		t.Fatalf("%s counted %d, %d bad, %d late of %d records", peer, a.Counted, a.Bad, a.Late, a.Records)
	}
	if a.Records == b.log.Records && peer != "null" && a.Bad != b.log.Malformed {
		t.Fatalf("%s found %d bad records, want %d", peer, a.Bad, b.log.Malformed)
	}
	if a.Late > a.Records/100 {
		t.Fatalf("%s took %d of %d records for late: its clock runs ahead", peer, a.Late, a.Records)
	}
}

// committed says whether the group has committed the end of every partition of the topic.
func (b *bench) committed(t *testing.T, group string, ends kadm.ListedOffsets) bool {
	t.Helper()
	offsets, err := b.admin.FetchOffsets(t.Context(), group)
	if err != nil {
		return false // the group is about to come into being
	}
	done := true
	ends.Each(func(end kadm.ListedOffset) {
		at, found := offsets.Lookup(end.Topic, end.Partition)
		done = done && (end.Offset == 0 || found && at.At >= end.Offset)
	})
	return done
}

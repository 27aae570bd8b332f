// Command freshness measures a running Vigie from outside: how long it takes from an event's stamp at the producer to
// the first SELECT that counts it, under a steady load, and the stream's processor time per event by stage meanwhile.
//
//	make run                                             # in one shell
//	. .vigie/keys.env && go run ./bench/freshness        # in another
//
// The load is JSON events of one metric written with a plain Kafka client. Probes are events of another metric, stamped
// when they are handed to the client; a reader asks SQL for their number, 20 ms after each answer, and the k-th probe is
// queryable when the number first reaches k. With -loads it first finds out what the stream takes of all that this
// producer can give, and then measures at parts of that. It does not start servers, and says nothing about queries
// under load.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/pause"
)

type options struct {
	brokers, topic, tenant, query, key, stream string
	rate, series                               int
	length, warm, every                        time.Duration
	runs                                       string
	percent                                    int
	loads                                      string
}

func main() {
	var o options
	flag.StringVar(&o.brokers, "brokers", "127.0.0.1:7092", "Kafka brokers, separated by commas")
	flag.StringVar(&o.topic, "topic", "vigie.metrics.v1", "topic of metrics")
	flag.StringVar(&o.tenant, "tenant", "acme", "tenant of load and probes")
	flag.StringVar(&o.query, "query", "http://127.0.0.1:7070", "query service")
	flag.StringVar(&o.key, "key", os.Getenv("VIGIE_KEY_ACME"), "API key of the tenant (default $VIGIE_KEY_ACME)")
	flag.StringVar(&o.stream, "stream", "http://127.0.0.1:7072", "stream's admin address, for processor time")
	flag.IntVar(&o.rate, "rate", 20_000, "events a second")
	flag.IntVar(&o.series, "series", 1000, "series of the load")
	flag.DurationVar(&o.length, "for", 30*time.Second, "length of the measurement")
	flag.DurationVar(&o.warm, "warm", 10*time.Second, "load before the measurement")
	flag.DurationVar(&o.every, "every", 100*time.Millisecond, "distance of probes")
	flag.StringVar(&o.runs, "runs", "",
		"file of runs to append the latencies to, as bench/compare does (bench/results/runs.jsonl)")
	flag.IntVar(&o.percent, "load", 0, "what part of its capacity the rate is, in percent, for that file")
	flag.StringVar(&o.loads, "loads", "", "measure at these parts of what the stream takes, in percent, "+
		"separated by commas (30,60,90), instead of at -rate")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "freshness:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, out io.Writer) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(o.brokers, ",")...), kgo.DefaultProduceTopic(o.topic),
		kgo.ProducerLinger(5*time.Millisecond))
	if err != nil {
		return fmt.Errorf("kafka client: %w", err)
	}
	defer client.Close()
	if err := client.Ping(ctx); err != nil {
		return fmt.Errorf("reach Kafka at %s: %w (is `make run` up?)", o.brokers, err)
	}
	if o.loads == "" {
		return measure(ctx, client, o, out)
	}
	capacity, err := capacity(ctx, client, o)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "the stream takes %.0f events/s beside this producer at its most\n", capacity)
	for _, word := range strings.Split(o.loads, ",") {
		if o.percent, err = strconv.Atoi(word); err != nil {
			return fmt.Errorf("loads %q: want percents separated by commas", o.loads)
		}
		o.rate = int(capacity) * o.percent / 100
		if err := measure(ctx, client, o, out); err != nil {
			return err
		}
	}
	return nil
}

// unbounded is more events a second than the producer can send.
const unbounded = 1 << 30

// capacity is how many events a second the stream takes while the producer sends all it can. It returns when the
// backlog of that is gone.
func capacity(ctx context.Context, client *kgo.Client, o options) (float64, error) {
	o.rate = unbounded
	loading, stop := context.WithTimeout(ctx, o.warm+o.length)
	defer stop()
	loaded := make(chan int, 1)
	go func() { loaded <- load(loading, client, o) }()
	if err := pause.For(ctx, o.warm); err != nil {
		return 0, err
	}
	before, err := scrape(ctx, o.stream)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	<-loaded
	after, err := scrape(ctx, o.stream)
	taken := (after.events - before.events) / time.Since(began).Seconds()
	if err == nil {
		o.length = time.Second
		// A probe is counted when all before it is.
		_, err = probe(ctx, client, o, "freshness_backlog_"+strconv.FormatInt(began.Unix(), 10))
	}
	return taken, err
}

// measure measures at one rate.
func measure(ctx context.Context, client *kgo.Client, o options, out io.Writer) error {
	began := time.Now()
	metric := "freshness_probe_" + strconv.FormatInt(time.Now().Unix(), 10)
	loading, stop := context.WithCancel(ctx)
	defer stop()
	loaded := make(chan int, 1)
	go func() { loaded <- load(loading, client, o) }()
	if err := pause.For(ctx, o.warm); err != nil {
		return err
	}
	before, err := scrape(ctx, o.stream)
	if err != nil {
		return err
	}
	latencies, err := probe(ctx, client, o, metric)
	if err != nil {
		return err
	}
	after, err := scrape(ctx, o.stream)
	if err != nil {
		return err
	}
	stop()
	n := <-loaded
	spent := time.Since(began)
	report(out, o, float64(n)/spent.Seconds(), latencies, before, after)
	if o.runs == "" {
		return nil
	}
	at := func(q float64) float64 { return latencies[int(q*float64(len(latencies)-1))].Seconds() } // report has sorted them
	return appendRun(o.runs, line{
		Round: time.Now().Unix(), Peer: "vigie", Case: fmt.Sprintf("json/%d/load-%d", o.series, o.percent), Events: n,
		CPU: after.cpu - before.cpu, Wall: spent.Seconds(), P50: at(0.5), P99: at(0.99),
	})
}

// line is what bench/compare reads of a line of its file.
type line struct {
	Round  int64   `json:"round"`
	Peer   string  `json:"peer"`
	Case   string  `json:"case"`
	Events int     `json:"events"`
	CPU    float64 `json:"cpu"`
	Wall   float64 `json:"wall"`
	P50    float64 `json:"p50"`
	P99    float64 `json:"p99"`
}

func appendRun(path string, r line) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = file.Write(append(text, '\n'))
	return errors.Join(err, file.Close())
}

// mostAtOnce is how many events are sent before time is looked at again.
const mostAtOnce = 10_000

// load writes events at the rate until ctx ends and returns how many.
func load(ctx context.Context, client *kgo.Client, o options) (sent int) {
	random := rand.New(rand.NewPCG(1, 2))
	began := time.Now()
	for ctx.Err() == nil {
		due := int(time.Since(began).Seconds() * float64(o.rate))
		for due = min(due, sent+mostAtOnce); sent < due; sent++ {
			n := random.IntN(o.series)
			value := fmt.Appendf(nil, `{"tenant":%q,"time":%d,"name":"freshness_load_seconds","value":%.4f,`+
				`"labels":{"service":"svc-%d","route":"/r/%d","instance":"i-%d"}}`,
				o.tenant, time.Now().UnixMilli(), random.ExpFloat64()/10, n%20, n/20%50, n/1000)
			// Keys that spread as shards do, so that all partitions and workers have work.
			client.Produce(ctx, &kgo.Record{Key: fmt.Appendf(nil, "%s#%d", o.tenant, n%16), Value: value}, nil)
		}
		time.Sleep(2 * time.Millisecond)
	}
	return sent
}

// patience is how long after the last probe all have to be counted.
const patience = 2 * time.Minute

// poll is how long the reader waits between an answer and its next question. A latency may come out as much longer; to
// ask at once would keep a core busy that broker, stream and ClickHouse share.
const poll = 20 * time.Millisecond

// probe sends stamped events and waits for each to be counted. It returns how long each took.
func probe(ctx context.Context, client *kgo.Client, o options, metric string) ([]time.Duration, error) {
	var latencies []time.Duration
	var stamps []time.Time
	began, next := time.Now(), time.Now()
	deadline := began.Add(o.length + patience)
	for len(latencies) < len(stamps) || time.Since(began) < o.length {
		if now := time.Now(); !now.Before(next) && now.Sub(began) < o.length {
			stamps, next = append(stamps, now), now.Add(o.every)
			value := fmt.Appendf(nil, `{"tenant":%q,"time":%d,"name":%q,"kind":"delta","value":1,"labels":{"service":"probe"}}`,
				o.tenant, now.UnixMilli(), metric)
			client.Produce(ctx, &kgo.Record{Key: []byte(o.tenant), Value: value}, nil)
		}
		seen, err := count(ctx, o, metric)
		if err != nil {
			return nil, err
		}
		for now := time.Now(); len(latencies) < min(seen, len(stamps)); {
			latencies = append(latencies, now.Sub(stamps[len(latencies)]))
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%d of %d probes were not counted within %s after the last",
				len(stamps)-len(latencies), len(stamps), patience)
		}
		time.Sleep(poll)
	}
	return latencies, nil
}

func count(ctx context.Context, o options, metric string) (int, error) {
	body, err := get(ctx, http.MethodPost, o.query+"/sql", o.key,
		strings.NewReader("SELECT toUInt64(sum(sum)) FROM api.metrics_10s WHERE metric = '"+metric+
			"' AND ts > now() - INTERVAL 5 MINUTE"))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(body))
}

func get(ctx context.Context, method, url, key string, body io.Reader) (string, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return "", err
	}
	if key != "" {
		request.Header.Set("Authorization", "Bearer "+key)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %s", method, url, response.Status, text[:min(len(text), 300)])
	}
	return string(text), err
}

// figures are the stream's counters at one time.
type figures struct {
	events float64
	stages map[string]float64 // processor seconds
	cpu    float64            // of the whole process
}

func scrape(ctx context.Context, stream string) (figures, error) {
	f := figures{stages: map[string]float64{}}
	text, err := get(ctx, http.MethodGet, stream+"/metrics", "", nil)
	if err != nil {
		return f, err
	}
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			continue
		}
		switch {
		case strings.HasPrefix(name, "vigie_pipeline_events_total{"):
			f.events += v
		case strings.HasPrefix(name, "vigie_pipeline_stage_cpu_seconds_total{stage="):
			f.stages[strings.TrimSuffix(strings.TrimPrefix(name, `vigie_pipeline_stage_cpu_seconds_total{stage="`), `"}`)] = v
		case name == "process_cpu_seconds_total":
			f.cpu = v
		}
	}
	return f, nil
}

func report(out io.Writer, o options, sent float64, latencies []time.Duration, before, after figures) {
	slices.Sort(latencies)
	at := func(q float64) time.Duration {
		return latencies[int(q*float64(len(latencies)-1))].Round(time.Millisecond)
	}
	fmt.Fprintf(out, "load: %d events/s of %d series asked, about %.0f/s sent\n", o.rate, o.series, sent)
	fmt.Fprintf(out, "event to queryable, %d probes: p50 %s  p90 %s  p99 %s  max %s\n",
		len(latencies), at(0.5), at(0.9), at(0.99), at(1))
	events := after.events - before.events
	if events <= 0 {
		return
	}
	fmt.Fprintf(out, "processor time of stream per event, over %.0f events:", events)
	for _, stage := range []string{"decode", "accumulate", "drain", "encode"} {
		fmt.Fprintf(out, "  %s %.0f ns", stage, (after.stages[stage]-before.stages[stage])/events*1e9)
	}
	fmt.Fprintf(out, "\nprocessor time of its whole process per event: %.0f ns\n", (after.cpu-before.cpu)/events*1e9)
}

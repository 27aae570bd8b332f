package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"
	"github.com/lovoo/goka/codec"
	"github.com/lovoo/goka/storage"
)

// open is one window of a series that is not over.
type open struct {
	Start int64   `json:"start"`
	Count int     `json:"count"`
	Sum   float64 `json:"sum"`
	Min   float64 `json:"min"`
	Max   float64 `json:"max"`
}

// windowsOf is what goka keeps of a series, in its table and in the topic behind that. It has no sketch: each event
// would be written with one.
type windowsOf struct {
	Newest int64  `json:"newest"`
	Open   []open `json:"open"`
}

// jsonCodec is how goka's users write their state.
type jsonCodec[T any] struct{}

func (jsonCodec[T]) Encode(value any) ([]byte, error) { return json.Marshal(value) }

func (jsonCodec[T]) Decode(data []byte) (any, error) {
	value := new(T)
	return value, json.Unmarshal(data, value)
}

// runGoka is the job in goka: events come by tenant, state is by series, so they go through a loop topic; windows are
// counts, sums and extremes, without quantiles. What is open at the end stays in the table.
func runGoka(ctx context.Context, brokers []string, topic, results string, records int) (report, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	r := report{Records: records}
	var read, bad, counted, late, rows atomic.Int64
	group := goka.Group(fmt.Sprintf("%s.goka.%d", topic, time.Now().UnixNano()))
	finished := func() {
		if counted.Load()+late.Load()+bad.Load() == int64(records) {
			stop()
		}
	}
	took := func(c goka.Context, message any) {
		if read.Add(1) > int64(records) {
			return
		}
		var e event
		if !decodeStandard(message.([]byte), &e) {
			bad.Add(1)
			finished()
			return
		}
		c.Loopback(string(e.key), message)
	}
	looped := func(c goka.Context, message any) {
		var e event
		decodeStandard(message.([]byte), &e)
		state, _ := c.Value().(*windowsOf)
		if state == nil {
			state = new(windowsOf)
		}
		if !state.add(&e) {
			late.Add(1)
			finished()
			return
		}
		for _, w := range state.over() {
			rows.Add(1)
			row := result{Series: c.Key(), Start: w.Start, Count: w.Count, Sum: w.Sum, Min: w.Min, Max: w.Max}
			value, err := json.Marshal(&row)
			if err != nil {
				c.Fail(err)
			}
			c.Emit(goka.Stream(results), c.Key(), value)
		}
		c.SetValue(state)
		counted.Add(1)
		finished()
	}
	graph := goka.DefineGroup(group,
		goka.Input(goka.Stream(topic), new(codec.Bytes), took),
		goka.Loop(new(codec.Bytes), looped),
		goka.Output(goka.Stream(results), new(codec.Bytes)),
		goka.Persist(jsonCodec[windowsOf]{}),
	)
	if err := gokaTopics(brokers, graph); err != nil {
		return r, err
	}
	p, err := goka.NewProcessor(brokers, graph,
		goka.WithStorageBuilder(storage.MemoryBuilder()), goka.WithLogger(log.New(io.Discard, "", 0)))
	if err != nil {
		return r, err
	}
	began := time.Now()
	if err := p.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return r, err
	}
	r.Wall, r.Counted, r.Results = time.Since(began).Seconds(), int(counted.Load()), int(rows.Load())
	r.Bad, r.Late = int(bad.Load()), int(late.Load())
	r.measure()
	return r, nil
}

// gokaTopics makes the topics that goka wants to be there.
func gokaTopics(brokers []string, graph *goka.GroupGraph) error {
	config := goka.DefaultConfig()
	config.Version = sarama.V2_8_0_0
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Producer.Compression = sarama.CompressionLZ4
	goka.ReplaceGlobalConfig(config)
	settings := goka.NewTopicManagerConfig()
	settings.Table.Replication, settings.Stream.Replication = 1, 1
	manager, err := goka.NewTopicManager(brokers, config, settings)
	if err != nil {
		return err
	}
	defer manager.Close()
	return errors.Join(
		manager.EnsureTableExists(graph.GroupTable().Topic(), partitions),
		manager.EnsureStreamExists(graph.LoopStream().Topic(), partitions),
	)
}

// add counts an event, and says whether its window is open.
func (w *windowsOf) add(e *event) bool {
	start := e.time - e.time%size
	if start+size <= w.Newest-delay {
		return false
	}
	w.Newest = max(w.Newest, e.time)
	for i := range w.Open {
		if o := &w.Open[i]; o.Start == start {
			o.Count, o.Sum, o.Min, o.Max = o.Count+1, o.Sum+e.value, min(o.Min, e.value), max(o.Max, e.value)
			return true
		}
	}
	w.Open = append(w.Open, open{start, 1, e.value, e.value, e.value})
	return true
}

// over takes out the windows that end before what may still come.
func (w *windowsOf) over() (list []open) {
	kept := w.Open[:0]
	for _, o := range w.Open {
		if o.Start+size <= w.Newest-delay {
			list = append(list, o)
		} else {
			kept = append(kept, o)
		}
	}
	w.Open = kept
	return list
}

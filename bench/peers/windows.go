package main

import (
	"context"
	"encoding/json"
	"sync/atomic"
	"time"

	"github.com/DataDog/sketches-go/ddsketch"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	size  = int64(10 * time.Second / time.Millisecond)
	delay = int64(5 * time.Second / time.Millisecond)
	alpha = 0.0054
)

// event is what decoders find. Its strings may be good until the next only.
type event struct {
	time  int64 // Unix milliseconds
	value float64
	key   []byte // of the series
}

// windowed decodes and aggregates.
type windowed struct {
	decode  func(value []byte, e *event) bool
	windows *windows
	bad     int
	event   event
}

func (w *windowed) take(partition int32, value []byte) {
	if !w.decode(value, &w.event) {
		w.bad++
		return
	}
	w.windows.add(partition, &w.event)
}

func (w *windowed) polled() error { return w.windows.advance() }

func (w *windowed) finish() (report, error) {
	err := w.windows.close(1 << 62)
	return report{Counted: w.windows.counted, Bad: w.bad, Late: w.windows.late, Results: w.windows.results}, err
}

// cell is what is known of a series in a window.
type cell struct {
	count         int
	sum, min, max float64
	sketch        *ddsketch.DDSketch
}

// windows keeps open windows; closed ones become results and their cells are used again.
type windows struct {
	client                 *kgo.Client
	failed                 atomic.Pointer[error]
	open                   map[int64]map[string]*cell // by start
	last                   map[string]*cell           // of lastStart
	lastStart              int64
	closed                 int64           // windows that end at or before are closed
	newest                 map[int32]int64 // event time, by partition
	free                   []*cell
	counted, late, results int
}

func newWindows(client *kgo.Client) *windows {
	return &windows{client: client, open: map[int64]map[string]*cell{}, newest: map[int32]int64{}, lastStart: -1}
}

func (w *windows) add(partition int32, e *event) {
	start := e.time - e.time%size
	if start+size <= w.closed {
		w.late++
		return
	}
	if start != w.lastStart {
		if w.last = w.open[start]; w.last == nil {
			w.last = map[string]*cell{}
			w.open[start] = w.last
		}
		w.lastStart = start
	}
	c := w.last[string(e.key)]
	if c == nil {
		c = w.cell()
		w.last[string(e.key)] = c
	}
	if c.count == 0 || e.value < c.min {
		c.min = e.value
	}
	if c.count == 0 || e.value > c.max {
		c.max = e.value
	}
	c.count++
	c.sum += e.value
	_ = c.sketch.Add(e.value)
	if e.time > w.newest[partition] {
		w.newest[partition] = e.time
	}
}

func (w *windows) cell() *cell {
	if n := len(w.free); n > 0 {
		c := w.free[n-1]
		w.free = w.free[:n-1]
		return c
	}
	sketch, err := ddsketch.NewDefaultDDSketch(alpha)
	if err != nil {
		panic(err)
	}
	return &cell{sketch: sketch}
}

// advance closes what the watermark has passed.
func (w *windows) advance() error {
	if len(w.newest) < partitions {
		return nil
	}
	watermark := int64(1) << 62
	for _, t := range w.newest {
		watermark = min(watermark, t-delay)
	}
	return w.close(watermark)
}

// partitions of the topic, without each of which no watermark is known.
const partitions = 4

// result is what a closed window says of a series.
type result struct {
	Series string    `json:"series"`
	Start  int64     `json:"start"`
	Count  int       `json:"count"`
	Sum    float64   `json:"sum"`
	Min    float64   `json:"min"`
	Max    float64   `json:"max"`
	Quants []float64 `json:"quantiles"`
}

var quantiles = []float64{0.5, 0.95, 0.99}

func (w *windows) close(watermark int64) error {
	for start, cells := range w.open {
		if start+size > watermark {
			continue
		}
		for key, c := range cells {
			values, err := c.sketch.GetValuesAtQuantiles(quantiles)
			if err != nil {
				return err
			}
			value, err := json.Marshal(&result{key, start, c.count, c.sum, c.min, c.max, values})
			if err != nil {
				return err
			}
			w.client.Produce(context.Background(), &kgo.Record{Key: []byte(key), Value: value}, w.produced)
			w.counted += c.count
			w.results++
			c.sketch.Clear()
			*c = cell{sketch: c.sketch}
			w.free = append(w.free, c)
		}
		delete(w.open, start)
		w.lastStart = -1
	}
	w.closed = max(w.closed, min(watermark, 1<<61))
	if err := w.failed.Load(); err != nil {
		return *err
	}
	return nil
}

func (w *windows) produced(_ *kgo.Record, err error) {
	if err != nil {
		w.failed.CompareAndSwap(nil, &err)
	}
}

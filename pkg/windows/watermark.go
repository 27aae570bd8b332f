package windows

import (
	"fmt"
	"math"
	"time"
)

// None is the watermark of a key without events: before all times.
const None = math.MinInt64

// WatermarkConfig says how far watermarks trail and when a key no longer counts.
type WatermarkConfig struct {
	// Delay is how far a key's watermark trails its newest event: how much disorder is waited for. At least 0.
	Delay time.Duration
	// IdleAfter is how long, in processing time, a key may bring no event before it is idle. Above 0.
	IdleAfter time.Duration
}

// Validate says what is wrong with durations that came from outside.
func (c WatermarkConfig) Validate() error {
	if c.Delay < 0 {
		return fmt.Errorf("watermark delay %s: want at least 0", c.Delay)
	}
	if c.IdleAfter <= 0 {
		return fmt.Errorf("idle after %s: want more than 0", c.IdleAfter)
	}
	return nil
}

// Watermarks follow event time per key, so that one key's wrong clock closes no window of another. The watermark of a
// key is its newest event time less Delay (Flink's bounded out-of-orderness) and never goes back. Events that must not
// move it (too far in the future) are not to be observed. Not safe for concurrent use.
type Watermarks[K comparable] struct {
	config WatermarkConfig
	keys   map[K]progress
}

type progress struct {
	newest int64 // event time
	seen   int64 // processing time of the last event
}

// NewWatermarks takes a valid config.
func NewWatermarks[K comparable](config WatermarkConfig) *Watermarks[K] {
	return &Watermarks[K]{config: config, keys: map[K]progress{}}
}

// Observe notes an event of key at time t, seen at processing time now.
func (w *Watermarks[K]) Observe(key K, t, now int64) {
	p, known := w.keys[key]
	if !known || t > p.newest {
		p.newest = t
	}
	if !known || now > p.seen {
		p.seen = now
	}
	w.keys[key] = p
}

// Of is the watermark of key: no event before it is expected any more. None before the first event, and after Expire
// forgot the key.
func (w *Watermarks[K]) Of(key K) int64 {
	p, known := w.keys[key]
	if !known {
		return None
	}
	return w.of(p)
}

// Idle says whether key brought no event in the IdleAfter before now. A key never seen is idle.
func (w *Watermarks[K]) Idle(key K, now int64) bool {
	p, known := w.keys[key]
	return !known || w.idle(p, now)
}

// Low is the least watermark of the keys that are not idle: what all of them together have reached. Idle keys do not
// hold it back; when all are idle it is the greatest of theirs, so that it does not fall. None without keys.
func (w *Watermarks[K]) Low(now int64) int64 {
	low, high, active := int64(math.MaxInt64), int64(None), false
	for _, p := range w.keys {
		at := w.of(p)
		high = max(high, at)
		if !w.idle(p, now) {
			low, active = min(low, at), true
		}
	}
	if active {
		return low
	}
	return high
}

// Expire forgets keys that have been idle, and returns how many. Without it every key ever seen is kept.
func (w *Watermarks[K]) Expire(now int64) (forgotten int) {
	for key, p := range w.keys {
		if w.idle(p, now) {
			delete(w.keys, key)
			forgotten++
		}
	}
	return forgotten
}

// Len is the number of keys followed.
func (w *Watermarks[K]) Len() int { return len(w.keys) }

func (w *Watermarks[K]) of(p progress) int64 {
	if p.newest < None+int64(w.config.Delay) {
		return None
	}
	return p.newest - int64(w.config.Delay)
}

func (w *Watermarks[K]) idle(p progress, now int64) bool {
	return now-p.seen >= int64(w.config.IdleAfter)
}

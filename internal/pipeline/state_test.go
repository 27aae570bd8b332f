package pipeline_test

import (
	"encoding/hex"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/state"
)

// stateLog is a compacted state partition.
type stateLog map[string]string

func (l stateLog) append(messages []pipeline.Message) {
	for _, m := range messages {
		if m.Value == nil {
			delete(l, string(m.Key))
		} else {
			l[string(m.Key)] = string(m.Value)
		}
	}
}

func (l stateLog) restore(t interface{ Fatalf(string, ...any) }, task *pipeline.Task) {
	for key, value := range l { // in any order
		k, v := []byte(key), []byte(value)
		if err := task.Restore(k, v); err != nil {
			t.Fatalf("restore %x: %v", key, err)
		}
		scribble(k)
		scribble(v) // the memory is the session's again
	}
}

func scribble(b []byte) {
	for i := range b {
		b[i] = 0xa5
	}
}

// The bytes of docs/format/state.md.
func TestStateGolden(t *testing.T) {
	task := newTask(nil)
	step(task, start, record("zeta", event(start, "m", "")), record("acme", event(start.Add(1500*time.Millisecond), "m", "")))
	out := drain(task, start)
	var got []string
	for _, m := range out.State {
		got = append(got, fmt.Sprintf("%s/%d %s=%s", m.Topic, m.Partition, hex.EncodeToString(m.Key), hex.EncodeToString(m.Value)))
	}
	want := []string{
		"vigie.state.metrics.v1/4 010161636d65=0100aff22b62f9ea18",
		"vigie.state.metrics.v1/4 01017a657461=0100808ad261f9ea18",
		"vigie.state.metrics.v1/4 050161636d65=018080aa949dacbef5180148",
		"vigie.state.metrics.v1/4 05017a657461=018080aa949dacbef5180146",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestRestoreRefusesWhatItDoesNotKnow(t *testing.T) {
	time8 := "\x00\x0f\x88\x66\xfa\x00\xba\x18"
	f := func(want, key, value string) {
		t.Helper()
		task := newTask(nil)
		err := task.Restore([]byte(key), []byte(value))
		switch {
		case want == "" && err != nil:
			t.Errorf("%x=%x: got %v, want it taken", key, value, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%x=%x: got %v, want an error with %q", key, value, err, want)
		}
	}
	f("", "\x01\x01acme", "\x01"+time8)
	f("want a kind and a version", "", "\x01"+time8)
	f("want a kind and a version", "\x01", "\x01"+time8)
	f("kind 255 is not known to this version of Vigie: run the one that wrote it", "\xff\x01acme", "\x01"+time8)
	f("key of kind 1 has version 2, this version of Vigie knows 1", "\x01\x02acme", "\x01"+time8)
	f("value of kind 1 has version 2, this version of Vigie knows 1", "\x01\x01acme", "\x02"+time8)
	f("value of kind 1 is empty", "\x01\x01acme", "")
	f("got 7 bytes, want 8", "\x01\x01acme", "\x01"+time8[1:])
	f("got 9 bytes, want 8", "\x01\x01acme", "\x01"+time8+"\x00")
	f("outside of what is admitted", "\x01\x01acme", "\x01\x00\x00\x00\x00\x00\x00\x00\x80")
	f("outside of what is admitted", "\x01\x01acme", "\x01\xff\xff\xff\xff\xff\xff\xff\x7f")
	f("tenant", "\x01\x01a b", "\x01"+time8)
	f("", "\x05\x01acme#7", "\x01\x80\x01\x01\x02")
	f("want windows of start, events and bytes", "\x05\x01acme", "\x01\x80\x01\x01")
	f("want windows of start, events and bytes", "\x05\x01acme", "\x01"+strings.Repeat("\x00\x01\x02", pipeline.RateWindows+1))
	f("want tenant, or tenant#shard", "\x05\x01acme#07", "\x01\x80\x01\x01\x02")
	f("want tenant, or tenant#shard", "\x05\x01acme#9999", "\x01\x80\x01\x01\x02")
	f("must not begin with", "\x05\x01_a", "\x01\x80\x01\x01\x02")
	f("tenant", "\x02\x0112345678k\xff"+strings.Repeat("a", 300), "\x01\x00\x00")
	f("want a rule, what it is about, and a tenant", "\x02\x0112345678k\xff"+strings.Repeat("a", 254), "\x01\x00\x00")
	const slice = "\x14\x02\x00" + "\x00\x00\x00\x00\x00\x00\xf0\x3f" + "\x00\x00\x00\x00\x00\x00\xe0\x3f" + "\x00\x00\x00\x00\x00\x00\xe0\x3f" + "\x02" + "\x00\x00\x00\x00\x00\x00\xe0\x3f" + "\x00"
	f("", "\x07\x0112345678s\x04acme\x00\x01\x00\x01m", "\x01"+slice)
	f("ends early, or goes on", "\x07\x0112345678s\x04acme\x00\x01\x00\x01m", "\x01"+slice+"\x00")
	f("ends early, or goes on", "\x07\x0112345678s\x04acme\x00\x01\x00\x01m", "\x01"+slice[:20])
	f("not a canonical key", "\x07\x0112345678s\x04acme\x00\x01\x00\x05m", "\x01"+slice)
	f("want a rule, what it is about", "\x07\x0112345678s\x04acme\x00", "\x01"+slice)
	f("step: got 2 bytes, want 8", "\x07\x0112345678t\x04acme", "\x01ab")
	f("status of an alert: got 3 bytes", "\x07\x0112345678a\x04acme\x00\x01m", "\x01abc")
	f("must not begin with", "\x07\x0112345678t\x02_a", "\x01"+time8)
	// What a newer version has removed again is nobody's business.
	for _, key := range []string{"\xff\x01acme", "\x01\x02acme", "\x01\x01acme"} {
		if err := newTask(nil).Restore([]byte(key), nil); err != nil {
			t.Errorf("tombstone of %x: got %v, want it taken", key, err)
		}
	}
}

func FuzzRestore(f *testing.F) {
	f.Add([]byte("\x01\x01acme"), []byte("\x01\x00\x0f\x88\x66\xfa\x00\xba\x18"))
	f.Add([]byte("\x05\x01acme#7"), []byte("\x01\x80\x01\x01\x02"))
	f.Add([]byte("\x02\x01"), []byte{})
	f.Add([]byte("\x07\x0112345678t\x04acme"), []byte("\x01\x00\x0f\x88\x66\xfa\x00\xba\x18"))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		task := newTask(nil)
		if task.Restore(key, value) == nil && len(key) < 2 {
			t.Errorf("%x=%x: got it taken, want it refused", key, value)
		}
		drain(task, start)
	})
}

// After any steps, aborts, crashes and sweeps the log holds each tenant's newest committed event time, as a plain loop
// finds it, until no admitted event can be older.
func TestWatermarksSurvive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		task, log, now := newTask(nil), stateLog{}, start
		committed, pending := map[string]int64{}, map[string]int64{}
		for range rapid.IntRange(1, 40).Draw(t, "rounds") {
			now = now.Add(time.Duration(rapid.SampledFrom([]int64{1, 60, 15 * 60, 6 * 3600}).Draw(t, "seconds")) * time.Second)
			for range rapid.IntRange(0, 4).Draw(t, "events") {
				tenant := rapid.SampledFrom([]string{"acme", "globex", "initech"}).Draw(t, "tenant")
				at := now.Add(-time.Duration(rapid.Int64Range(0, 80*3600).Draw(t, "age")) * time.Second)
				step(task, now, record(tenant, event(at, "m", "")))
				if at.After(now.Add(-72*time.Hour)) || at.Equal(now.Add(-72*time.Hour)) {
					pending[tenant] = max(pending[tenant], at.UnixNano())
				}
			}
			crash := func() {
				task = newTask(nil)
				log.restore(t, task)
			}
			switch rapid.IntRange(0, 3).Draw(t, "end") {
			case 0: // in the middle
				crash()
			case 1:
				drain(task, now)
				task.Forget()
			default:
				log.append(drain(task, now).State)
				task.Committed(true)
				for tenant, at := range pending {
					committed[tenant] = max(committed[tenant], at)
				}
				if rapid.Bool().Draw(t, "crash after commit") {
					crash()
				}
			}
			clear(pending)
			for tenant, want := range committed {
				state, ok := log["\x01\x01"+tenant]
				if !ok && want < now.Add(-72*time.Hour).UnixNano() {
					delete(committed, tenant) // forgotten: the plain loop begins anew, and no event can be older
					continue
				}
				var got int64
				for i := len(state) - 1; i > 0; i-- {
					got = got<<8 | int64(state[i])
				}
				if got != want {
					t.Fatalf("%s: got newest %d in the log, want %d", tenant, got, want)
				}
			}
		}
	})
}

// What rests is bounded: the oldest watermarks go first, and leave tombstones that an abort does not lose.
func TestRestingWatermarksAreBounded(t *testing.T) {
	task := newTask(func(c *pipeline.TaskConfig) { c.Config.MaxTenants = 2 })
	log := stateLog{}
	for i, tenant := range []string{"b", "a", "d", "c"} {
		now := start.Add(time.Duration(i) * time.Hour)
		step(task, now, record(tenant, event(now, "m", "")))
		log.append(drain(task, now).State)
		task.Committed(true)
	}
	tombstones := func(want string) {
		t.Helper()
		var got []string
		for _, m := range drain(task, start.Add(100*time.Hour)).State {
			if log.append([]pipeline.Message{m}); m.Value == nil && m.Key[0] == 1 {
				got = append(got, string(m.Key[2:]))
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("got tombstones of %q, want %q", got, want)
		}
	}
	tombstones("b") // b, a and d rest: one too many
	task.Forget()
	tombstones("b")
	task.Committed(true)
	tombstones("a c d") // no event as old as these is admitted any more
	task.Committed(true)
	tombstones("")
	if len(log) != 0 {
		t.Errorf("got %d keys left, want none", len(log))
	}
}

// Undo is compared with a copy of the map from before the epoch.
func TestUndo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var undo state.Undo
		state := map[string]string{}
		restore := func(key, value []byte) error {
			if value == nil {
				delete(state, string(key))
			} else {
				state[string(key)] = string(value)
			}
			return nil
		}
		for range rapid.IntRange(1, 5).Draw(t, "epochs") {
			before := maps.Clone(state)
			for range rapid.IntRange(0, 10).Draw(t, "changes") {
				key := rapid.StringN(0, 2, 2).Draw(t, "key")
				old, ok := state[key]
				if ok {
					undo.Note([]byte(key), []byte(old))
				} else {
					undo.Note([]byte(key), nil)
				}
				if rapid.Bool().Draw(t, "delete") {
					delete(state, key)
				} else {
					state[key] = rapid.StringN(0, 3, 3).Draw(t, "value")
				}
			}
			if rapid.Bool().Draw(t, "abort") {
				undo.Back(restore)
				if !maps.Equal(state, before) {
					t.Fatalf("got %q, want %q", state, before)
				}
			} else {
				undo.Clear()
			}
		}
	})
}

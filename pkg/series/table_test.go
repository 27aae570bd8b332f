package series_test

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/pkg/series"
)

// Two series with the same hash stay two: the whole key decides, also after growth and deletion.
func TestTableForcedCollision(t *testing.T) {
	const keys = 1000
	table := series.WeakTable[int](func([]byte) uint64 { return 0xdeadbeefcafe0000 })
	key := func(i int) []byte { return series.AppendKey(nil, 0, "m", pairs("i", strconv.Itoa(i))) }
	for i := range keys {
		ref, fresh := table.Insert(key(i), 0)
		if !fresh {
			t.Fatalf("key %d: got the number of another key, want a new one", i)
		}
		*table.At(ref) = i
	}
	for i := 0; i < keys; i += 3 {
		if !table.Delete(key(i)) {
			t.Fatalf("delete key %d: got false, want true", i)
		}
	}
	for i := range keys {
		ref, ok := table.Find(key(i))
		if gone := i%3 == 0; gone == ok || ok && *table.At(ref) != i {
			t.Fatalf("key %d: got %v, %v, want its own value, or none when deleted", i, ref, ok)
		}
	}
}

// The table agrees with a Go map after any sequence of calls, whatever the hash function does.
func TestTableAgainstMap(t *testing.T) {
	hashes := map[string]func([]byte) uint64{
		"good":     func(k []byte) uint64 { return series.Hash(k).Lo },
		"constant": func([]byte) uint64 { return 7 },
		"low bits": func(k []byte) uint64 { return series.Hash(k).Lo & 3 },
		"one tag":  func(k []byte) uint64 { return series.Hash(k).Lo & 0xffffffff },
		"ends":     func(k []byte) uint64 { return ^uint64(0) - series.Hash(k).Lo&1 }, // runs wrap around
	}
	for name, hash := range hashes {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				table := series.WeakTable[uint64](hash)
				want := map[string]uint64{}
				pointers := map[string]*uint64{}
				for step := range rapid.IntRange(0, 400).Draw(t, "steps") {
					key := drawKey(t)
					_, there := want[string(key)]
					if rapid.IntRange(0, 2).Draw(t, "op") > 0 {
						ref, fresh := table.Insert(key, series.Hash(key).Lo)
						value := table.At(ref)
						if fresh == there || fresh && *value != 0 {
							t.Fatalf("insert %x: got fresh %v value %d, want fresh %v value 0", key, fresh, *value, !there)
						}
						if there && pointers[string(key)] != value {
							t.Fatalf("insert %x: the value moved", key)
						}
						*value = uint64(step) + 1
						want[string(key)], pointers[string(key)] = *value, value
					} else {
						if got := table.Delete(key); got != there {
							t.Fatalf("delete %x: got %v, want %v", key, got, there)
						}
						delete(want, string(key))
						delete(pointers, string(key))
					}
				}
				compare(t, table, want)
			})
		})
	}
}

// drawKey draws one of a few keys: canonical ones, of which some have the same values or the same names as others, and
// anything.
func drawKey(t *rapid.T) []byte {
	if rapid.Bool().Draw(t, "raw") {
		return binary.AppendUvarint(nil, rapid.Uint64Range(0, 60).Draw(t, "key"))
	}
	var ls series.Labels
	for _, name := range []string{"a", strings.Repeat("b", 130)} {
		if value := rapid.SampledFrom([]string{"", "x", "y", strings.Repeat("z", 200)}).Draw(t, "value"); value != "" {
			ls = append(ls, series.Label{Name: name, Value: value})
		}
	}
	return series.AppendKey(nil, rapid.Byte().Draw(t, "kind")%2, rapid.SampledFrom([]string{"m", "n"}).Draw(t, "metric"), ls)
}

func compare(t *rapid.T, table *series.Table[uint64], want map[string]uint64) {
	if table.Len() != len(want) {
		t.Fatalf("got length %d, want %d", table.Len(), len(want))
	}
	for key, value := range want {
		if ref, ok := table.Find([]byte(key)); !ok || *table.At(ref) != value {
			t.Fatalf("find %x: got %v, %v, want the number of %d", key, ref, ok, value)
		}
	}
	seen := 0
	table.Range(func(ref uint32) bool {
		key, value := table.AppendKey(nil, ref), *table.At(ref)
		if seen++; want[string(key)] != value || table.Note(ref) != series.Hash(key).Lo {
			t.Fatalf("range %x: got %d, want %d", key, value, want[string(key)])
		}
		return true
	})
	if seen != len(want) {
		t.Fatalf("range: got %d keys, want %d", seen, len(want))
	}
}

// Keys that were chosen to have neighbouring hashes, as anybody can who knows the hash, are found as fast as others.
func TestTableFlood(t *testing.T) {
	const keys, near = 10_000, 1 << 8
	var table series.Table[int]
	for i, found := 0, 0; found < keys; i++ {
		key := series.AppendKey(nil, 0, "m", pairs("i", strconv.Itoa(i)))
		if id := series.Hash(key); id.Lo%(1<<16) < near || id.Lo>>48 < near {
			table.Insert(key, 0)
			found++
		}
	}
	// At three quarters full the longest of 16,384 is 200 in the mean (Knuth, TAOCP 3, 6.4); flooded it would be 5000.
	if got := table.LongestSearch(); got > 1500 {
		t.Errorf("got a search of %d slots for %d keys, want one that is short", got, keys)
	}
}

func TestTableRangeDeletes(t *testing.T) {
	var table series.Table[int]
	for i := range 1000 {
		key := []byte(strconv.Itoa(i))
		ref, _ := table.Insert(key, 0)
		*table.At(ref) = i
	}
	order := -1
	table.Range(func(ref uint32) bool {
		value := *table.At(ref)
		if value <= order {
			t.Fatalf("got %d after %d, want the order of insertion", value, order)
		}
		order = value
		if value%2 == 0 {
			table.Delete(table.AppendKey(nil, ref))
		}
		return true
	})
	if table.Len() != 500 {
		t.Fatalf("got length %d, want 500", table.Len())
	}
	stopped := 0
	table.Range(func(uint32) bool { stopped++; return false })
	if stopped != 1 {
		t.Fatalf("got %d calls after false, want 1", stopped)
	}
}

func TestTableEmpty(t *testing.T) {
	var table series.Table[int]
	if _, ok := table.Find([]byte("a")); ok || table.Delete([]byte("a")) || table.Len() != 0 {
		t.Fatal("got something from an empty table, want nothing")
	}
}

// Keys stay what they are while others come and go, also long ones and such as are no series', and so do labels that
// are held over the deletion of their key; and the memory of those that are gone is used again. Forms are more than a
// table keeps.
func TestTableKeys(t *testing.T) {
	var table series.Table[int]
	labels := func(i int) series.Labels {
		return pairs("a"+strconv.Itoa(i%1500), strconv.Itoa(i), "b", strings.Repeat("v", []int{1, 3, 100, 1000, 70_000}[i%5]))
	}
	key := func(i int) []byte {
		if i%7 == 6 {
			return append(binary.AppendUvarint(nil, uint64(i)), make([]byte, []int{0, 3, 100, 1000, 70_000}[i%5])...)
		}
		return series.AppendKey(nil, byte(i%4), "m", labels(i))
	}
	const live = 40
	var before, after runtime.MemStats
	held := map[int]series.Labels{}
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range 10_000 {
		ref, fresh := table.Insert(key(i), uint64(i))
		if !fresh {
			t.Fatalf("key %d: got the number of another, want a new one", i)
		}
		*table.At(ref) = i
		if i%100 == 0 && i%7 != 6 {
			held[i] = table.AppendLabels(nil, ref)
		}
		if i >= live && !table.Delete(key(i-live)) {
			t.Fatalf("delete key %d: got false, want true", i-live)
		}
	}
	table.Range(func(ref uint32) bool {
		got := table.AppendKey(nil, ref)
		if i := *table.At(ref); !bytes.Equal(got, key(i)) || table.Note(ref) != uint64(i) {
			t.Errorf("key %d: got %.8x of %d bytes, note %d", i, got, len(got), table.Note(ref))
		}
		return true
	})
	runtime.GC()
	runtime.ReadMemStats(&after)
	if got := int(after.HeapAlloc) - int(before.HeapAlloc); got > 16<<20 {
		t.Errorf("got %d bytes for %d keys, want those of deleted ones back", got, table.Len())
	}
	for i, got := range held {
		if !got.Equal(labels(i)) {
			t.Errorf("got %.40v for labels that were held while their key was deleted, want those of %d", got, i)
		}
	}
	runtime.KeepAlive(&table)
}

func BenchmarkTableHit(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			var table series.Table[[96]byte]
			keys := make([][]byte, n)
			for i := range keys {
				keys[i] = series.AppendKey(nil, 0, "http_request_duration_seconds",
					pairs("instance", strconv.Itoa(i), "region", "eu-west-1", "route", "/pay", "service", "checkout"))
				table.Insert(keys[i], 0)
			}
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				i = (i*1664525 + 1013904223) % n
				if _, ok := table.Find(keys[i]); !ok {
					b.Fatal("got nothing, want its number")
				}
			}
		})
	}
}

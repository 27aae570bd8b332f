package series_test

import (
	"encoding/binary"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/pkg/series"
)

// Two series with the same hash stay two: the whole key decides, also after growth and deletion.
func TestTableForcedCollision(t *testing.T) {
	const hash = 0xdeadbeefcafe0000
	const keys = 1000
	var table series.Table[int]
	key := func(i int) []byte { return series.AppendKey(nil, 0, "m", pairs("i", strconv.Itoa(i))) }
	for i := range keys {
		value, fresh := table.Insert(hash, key(i))
		if !fresh {
			t.Fatalf("key %d: got a value of another key, want a new one", i)
		}
		*value = i
	}
	for i := 0; i < keys; i += 3 {
		if !table.Delete(hash, key(i)) {
			t.Fatalf("delete key %d: got false, want true", i)
		}
	}
	for i := range keys {
		got := table.Get(hash, key(i))
		if gone := i%3 == 0; gone != (got == nil) || got != nil && *got != i {
			t.Fatalf("key %d: got %v, want its own value, or nil when deleted", i, got)
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
				var table series.Table[uint64]
				want := map[string]uint64{}
				pointers := map[string]*uint64{}
				for step := range rapid.IntRange(0, 400).Draw(t, "steps") {
					key := binary.AppendUvarint(nil, rapid.Uint64Range(0, 60).Draw(t, "key"))
					h := hash(key)
					_, there := want[string(key)]
					if rapid.IntRange(0, 2).Draw(t, "op") > 0 {
						value, fresh := table.Insert(h, key)
						if fresh == there || fresh && *value != 0 {
							t.Fatalf("insert %x: got fresh %v value %d, want fresh %v value 0", key, fresh, *value, !there)
						}
						if there && pointers[string(key)] != value {
							t.Fatalf("insert %x: the value moved", key)
						}
						*value = uint64(step) + 1
						want[string(key)], pointers[string(key)] = *value, value
					} else {
						if got := table.Delete(h, key); got != there {
							t.Fatalf("delete %x: got %v, want %v", key, got, there)
						}
						delete(want, string(key))
						delete(pointers, string(key))
					}
				}
				compare(t, &table, want, hash)
			})
		})
	}
}

func compare(t *rapid.T, table *series.Table[uint64], want map[string]uint64, hash func([]byte) uint64) {
	if table.Len() != len(want) {
		t.Fatalf("got length %d, want %d", table.Len(), len(want))
	}
	for key, value := range want {
		if got := table.Get(hash([]byte(key)), []byte(key)); got == nil || *got != value {
			t.Fatalf("get %x: got %v, want %d", key, got, value)
		}
	}
	seen := 0
	table.Range(func(h uint64, key string, value *uint64) bool {
		if seen++; want[key] != *value || h != hash([]byte(key)) {
			t.Fatalf("range %x: got %d, want %d", key, *value, want[key])
		}
		return true
	})
	if seen != len(want) {
		t.Fatalf("range: got %d keys, want %d", seen, len(want))
	}
}

func TestTableRangeDeletes(t *testing.T) {
	var table series.Table[int]
	for i := range 1000 {
		key := []byte(strconv.Itoa(i))
		value, _ := table.Insert(series.Hash(key).Lo, key)
		*value = i
	}
	order := -1
	table.Range(func(hash uint64, key string, value *int) bool {
		if *value <= order {
			t.Fatalf("got %d after %d, want the order of insertion", *value, order)
		}
		order = *value
		if *value%2 == 0 {
			table.Delete(hash, []byte(key))
		}
		return true
	})
	if table.Len() != 500 {
		t.Fatalf("got length %d, want 500", table.Len())
	}
	stopped := 0
	table.Range(func(uint64, string, *int) bool { stopped++; return false })
	if stopped != 1 {
		t.Fatalf("got %d calls after false, want 1", stopped)
	}
}

func TestTableEmpty(t *testing.T) {
	var table series.Table[int]
	if table.Get(1, []byte("a")) != nil || table.Delete(1, []byte("a")) || table.Len() != 0 {
		t.Fatal("got something from an empty table, want nothing")
	}
}

func BenchmarkTableHit(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			var table series.Table[[96]byte]
			keys := make([][]byte, n)
			hashes := make([]uint64, n)
			for i := range keys {
				keys[i] = series.AppendKey(nil, 0, "http_request_duration_seconds", pairs("instance", strconv.Itoa(i), "region", "eu-west-1", "route", "/pay", "service", "checkout"))
				hashes[i] = series.Hash(keys[i]).Lo
				table.Insert(hashes[i], keys[i])
			}
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				i = (i*1664525 + 1013904223) % n
				if table.Get(hashes[i], keys[i]) == nil {
					b.Fatal("got nil, want the value")
				}
			}
		})
	}
}

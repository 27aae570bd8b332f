package series_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/pkg/series"
)

// Many searches at once find in each of two tables what one after the other find, and what has come since; and they
// insert what was not there.
func TestSearchesAgainstFind(t *testing.T) {
	hashes := map[string]func([]byte) uint64{
		"good":     func(k []byte) uint64 { return series.Hash(k).Lo },
		"constant": func([]byte) uint64 { return 7 },
		"one tag":  func(k []byte) uint64 { return series.Hash(k).Lo & 0xffffffff },
		"ends":     func(k []byte) uint64 { return ^uint64(0) - series.Hash(k).Lo&1 }, // runs wrap around
	}
	for name, hash := range hashes {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				tables := [...]*series.Table[uint64]{series.WeakTable[uint64](hash), series.WeakTable[uint64](hash)}
				var searches []*series.Search[uint64]
				for range rapid.IntRange(0, 80).Draw(t, "keys") {
					table, key := tables[rapid.IntRange(0, 1).Draw(t, "table")], drawKey(t)
					if rapid.Bool().Draw(t, "there") {
						table.Insert(key, series.Hash(key).Lo)
					}
					if rapid.Bool().Draw(t, "sought") {
						s := table.Sought(key)
						searches = append(searches, &s)
					}
				}
				series.FindAll(searches)
				for i, s := range searches {
					ref, ok := s.Table.Find(s.Key)
					if one := s.Table.Search(s.Key); one.Found != ok || ok && one.Ref != ref {
						t.Fatalf("search %x: got %v, %v, want %v, %v", s.Key, one.Ref, one.Found, ref, ok)
					}
					if i == 0 && (s.Found != ok || ok && s.Ref != ref) {
						t.Fatalf("find all, %x: got %v, %v, want %v, %v", s.Key, s.Ref, s.Found, ref, ok)
					}
					if s.Again() != ok || ok && s.Ref != ref { // others may have been inserted below
						t.Fatalf("again %x: got %v, %v, want %v, %v", s.Key, s.Ref, s.Found, ref, ok)
					}
					if !ok && rapid.Bool().Draw(t, "insert") {
						if ref = s.Insert(series.Hash(s.Key).Lo); s.Table.Note(ref) != series.Hash(s.Key).Lo {
							t.Fatalf("insert %x: got note %d", s.Key, s.Table.Note(ref))
						}
						if got, ok := s.Table.Find(s.Key); !ok || got != ref {
							t.Fatalf("find %x after its search inserted it: got %v, %v, want %v", s.Key, got, ok, ref)
						}
					}
				}
			})
		})
	}
}

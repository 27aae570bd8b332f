package kafka

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"
)

// What a later record of the same key takes the place of is stale, and nothing else; what lies behind the end takes no
// place.
func TestRepeats(t *testing.T) {
	r := newRepeats()
	rapid.Check(t, func(t *rapid.T) {
		var records []*kgo.Record
		for i, key := range rapid.SliceOfN(rapid.SampledFrom([]string{"", "a", "b", "ab", "c"}), 0, 20).Draw(t, "keys") {
			records = append(records, &kgo.Record{Key: []byte(key), Offset: int64(i) + 7})
		}
		end := int64(rapid.IntRange(0, 30).Draw(t, "end"))
		stale := r.find(records, end)
		for i, record := range records {
			want := false
			for _, later := range records[i+1:] {
				want = want || later.Offset < end && string(later.Key) == string(record.Key)
			}
			if stale[i] != want {
				t.Fatalf("record %d of %v, end %d: got stale %v, want %v", i, records, end, stale[i], want)
			}
		}
	})
}

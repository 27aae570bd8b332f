package clickhouse_test

import (
	"fmt"
	"maps"
	"testing"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/coarse"
)

// What is told of a partition's position is there by topic, and never goes back.
func TestMerged(t *testing.T) {
	_, client := migrated(t, nil)
	for i, at := range []coarse.Position{
		{Topic: "a", Next: 5}, {Topic: "a", Partition: 1, Next: 7}, {Topic: "a", Next: 9}, {Topic: "a", Next: 6}, {Topic: "b", Next: 3},
	} {
		block, err := clickhouse.Encoder{}.EncodeMerged(nil, at)
		if err != nil {
			t.Fatal(err)
		}
		if err := client.Insert(t.Context(), coarse.TableMerged, fmt.Sprint("t/0/", i, "/m"), 1, block); err != nil {
			t.Fatal(err)
		}
	}
	for topic, want := range map[string]map[int32]int64{"a": {0: 9, 1: 7}, "b": {0: 3}, "c": {}} {
		if got, err := clickhouse.NewStore(client).Merged(t.Context(), topic); err != nil || !maps.Equal(got, want) {
			t.Errorf("%s: got %v, %v, want %v", topic, got, err, want)
		}
	}
}

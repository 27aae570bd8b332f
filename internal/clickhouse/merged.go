package clickhouse

import (
	"context"
	"fmt"

	"github.com/ClickHouse/ch-go/proto"
)

// Merged says up to which offset each partition of the results topic of this id is merged and stored in the tiers of a
// minute and an hour.
func (s *Store) Merged(ctx context.Context, topic string) (map[int32]int64, error) {
	var (
		partition proto.ColInt32
		next      proto.ColInt64
		reached   = map[int32]int64{}
	)
	query := "SELECT partition, max(m.next)::Int64 AS next FROM vigie.merged AS m WHERE topic = " + literal(topic) + " GROUP BY partition"
	err := s.read(ctx, query, nil, proto.Results{{Name: "partition", Data: &partition}, {Name: "next", Data: &next}}, func(rows int) error {
		for i := range rows {
			reached[partition[i]] = next[i]
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read how far results are merged: %w", err)
	}
	return reached, nil
}

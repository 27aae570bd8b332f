package clickhouse

import (
	"context"
	"net/url"

	"github.com/vigie-io/vigie/internal/query/slots"
)

// behind lets the server's threads for a statement give way to all its others, where the server may say so to its
// system (CAP_SYS_NICE); where it may not, the setting does nothing. A processor that others leave idle it gets whole.
var behind = map[string]string{"os_thread_priority": "10"}

// giveWay sets params so where ctx is that of a query that gives way.
func giveWay(ctx context.Context, params url.Values) {
	if !slots.GivesWay(ctx) {
		return
	}
	for name, value := range behind {
		params.Set(name, value)
	}
}

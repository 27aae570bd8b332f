package clickhouse

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// Duplicates is, by address, how many blocks each server has dropped as duplicates since it started, whoever sent
// them; one of Insert counts once for each table behind it. A server that does not answer is left out.
func (c *Client) Duplicates(ctx context.Context) map[string]uint64 {
	ctx, cancel := c.timeout(ctx, 0)
	defer cancel()
	out := make(map[string]uint64, len(c.cfg.Addrs))
	for _, addr := range c.cfg.Addrs {
		if n, err := c.duplicatesOf(ctx, addr); err == nil {
			out[addr] = n
		}
	}
	return out
}

func (c *Client) duplicatesOf(ctx context.Context, addr string) (uint64, error) {
	const query = "SELECT sum(value) FROM system.events WHERE event = 'DuplicatedInsertedBlocks' FORMAT TabSeparated"
	response, err := c.try(ctx, addr, &call{as: c.service, method: http.MethodPost, params: c.settings(query)})
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, 64))
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(answer)), 10, 64)
}

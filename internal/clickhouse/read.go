package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/vigie-io/vigie/internal/query/promql"
	"github.com/vigie-io/vigie/internal/query/querylog"
	"github.com/vigie-io/vigie/pkg/series"
)

// read streams the answer of a query into results, one block at a time.
func (s *Store) read(ctx context.Context, query string, ids []series.ID, results proto.Results,
	yield func(rows int) error) error {
	return s.nameLimit(s.stream(ctx, query, ids, results, yield))
}

// nameLimit names the limit of ours that ended a read.
func (s *Store) nameLimit(err error) error {
	if limit := s.client.limitOf(err); limit != nil {
		return fmt.Errorf("%w: %w", limit, err)
	}
	return err
}

// limitOf says which limit of ours ended a read on the server; nil when none did.
func (c *Client) limitOf(err error) *promql.LimitError {
	var exception *Error
	if !errors.As(err, &exception) {
		return nil
	}
	const hint = "shorten the time range, or add label matchers"
	switch exception.Code {
	case codeMemory:
		return &promql.LimitError{Limit: "clickhouse.read_memory", Value: c.cfg.ReadMemory,
			Met: "a read takes too much memory in the database", Hint: hint}
	case codeTimeout:
		return &promql.LimitError{Limit: "clickhouse.timeout", Value: c.cfg.Timeout,
			Met: "a read takes too long in the database", Hint: hint}
	}
	return nil
}

func (s *Store) stream(ctx context.Context, query string, ids []series.ID, results proto.Results,
	yield func(rows int) error) error {
	var table *external
	if ids != nil {
		table = externalIDs(ids)
	}
	promql.TraceOf(ctx).Statement(query, len(ids))
	request, err := s.client.readCall(query, table)
	if err != nil {
		return err
	}
	return s.answer(ctx, request, results, yield)
}

// answer streams the answer of a call.
func (s *Store) answer(ctx context.Context, request *call, results proto.Results, yield func(rows int) error) error {
	giveWay(ctx, request.params)
	ctx, cancel := s.client.timeout(ctx, 0)
	defer cancel()
	response, err := s.client.do(ctx, request)
	if err != nil {
		return err
	}
	// A reader that goes away ends the query: closing an unread body closes the connection.
	defer response.Body.Close()
	promql.TraceOf(ctx).Read(querylog.ReadOf(response.Header))
	body, release, err := decompressed(response)
	if err != nil {
		return err
	}
	defer release()
	return readBlocks(body, results, yield)
}

func (c *Client) readCall(query string, ids *external) (*call, error) {
	query += "\nFORMAT Native"
	params := c.settings("")
	params.Del("query")
	// Answers stream; an exception in the middle is found by readBlocks.
	params.Del("wait_end_of_query")
	params.Set("max_query_size", strconv.Itoa(max(1<<20, 2*len(query))))
	params.Set("max_memory_usage", strconv.FormatInt(int64(c.cfg.ReadMemory), 10))
	params.Set("max_block_size", strconv.Itoa(readBlockRows))
	params.Set("cancel_http_readonly_queries_on_client_close", "1")
	params.Set("readonly", "2") // but for settings of a statement
	header := http.Header{}
	if c.encoder != nil {
		params.Set("enable_http_compression", "1")
		header.Set("Accept-Encoding", "zstd")
	}
	out := &call{as: c.service, method: http.MethodPost, params: params, header: header, body: []byte(query)}
	if ids == nil {
		return out, nil
	}
	// The statement moves to the URL: the body carries the table of ids.
	params.Set("query", query)
	params.Set("ids_format", "RowBinary")
	params.Set("ids_structure", ids.structure)
	body, contentType, err := ids.form()
	if err != nil {
		return nil, err
	}
	header.Set("Content-Type", contentType)
	out.body = body
	return out, nil
}

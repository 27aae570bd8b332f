package sqlgate

import (
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vigie-io/vigie/internal/tenants"
)

// Parameters of ClickHouse's HTTP interface, by what becomes of them.
var (
	// used by the gateway itself.
	used = []string{"query", "database", "user", "password", "decompress", "query_id", "compress", "enable_http_compression"}
	// dropped: clients send them and nothing depends on it, or (buffer sizes) they would take the server's memory. What
	// a session could keep between requests, temporary tables and settings, cannot be made here.
	dropped = []string{
		"readonly", "quota_key", "cancel_http_readonly_queries_on_client_close", "buffer_size", "http_response_buffer_size",
		"session_id", "session_timeout", "session_check", "close_session", "log_comment", "log_queries",
		"http_zlib_compression_level", "network_compression_method", "network_zstd_compression_level",
	}
	// What is about writing says nothing of a statement that reads.
	droppedPrefixes = []string{"insert_", "input_format_", "async_", "wait_for_async_"}
	// passed to ClickHouse as they are: how the answer looks, never what it is read from. Native clients read blocks of
	// the client_protocol_version they send.
	passed = []string{
		"default_format", "client_protocol_version",
		"wait_end_of_query", "send_progress_in_http_headers", "http_headers_progress_interval_ms",
		"http_write_exception_in_output_format", "extremes", "max_block_size", "join_use_nulls",
		"session_timezone", "date_time_output_format", "date_time_input_format", "date_time_overflow_behavior",
		"prefer_column_name_to_alias", "result_overflow_mode", "limit", "offset",
		"count_distinct_implementation", "aggregate_functions_null_for_empty", "transform_null_in", "cast_keep_nullable",
		"cast_string_to_dynamic_use_inference",
	}
	passedPrefixes = []string{"param_", "output_format_", "format_csv_", "format_custom_"}
	// withheld begin like those and are not about how the answer looks: one writes a file on the server, the others
	// name a registry elsewhere.
	withheld = []string{"output_format_schema", "output_format_avro_confluent_subject"}
	// lowered: a client may ask for less than its tenant may use.
	lowered = []string{"max_execution_time", "max_rows_to_read", "max_bytes_to_read", "max_result_rows",
		"max_memory_usage", "max_threads"}
)

// settings returns the parameters that go to ClickHouse. An unknown one is an error: silently leaving it out
// would change what the client asked for.
func settings(in url.Values, h http.Header, l tenants.Limits, database string) (url.Values, error) {
	out := url.Values{}
	for name, values := range in {
		value := values[len(values)-1]
		switch {
		case slices.Contains(used, name), slices.Contains(dropped, name), hasPrefix(name, droppedPrefixes):
		case slices.Contains(passed, name), hasPrefix(name, passedPrefixes) && !slices.Contains(withheld, name):
			out.Set(name, value)
		case slices.Contains(lowered, name):
			if _, err := strconv.ParseFloat(value, 64); err != nil {
				return nil, refuse(badArguments, "setting %s: got %q, want a number", name, clip(value))
			}
			out.Set(name, value)
		default:
			return nil, refuse(unknownSetting,
				"setting or parameter %q is not passed on; allowed are param_*, output_format_*, %s, %s",
				clip(name), strings.Join(passed, ", "), strings.Join(lowered, ", "))
		}
	}
	limit(out, "max_execution_time", l.QueryTimeout.Seconds())
	limit(out, "max_rows_to_read", float64(l.SQLReadRows))
	limit(out, "max_bytes_to_read", float64(l.SQLReadBytes))
	limit(out, "max_result_rows", float64(l.SQLResultRows))
	limit(out, "max_memory_usage", float64(l.SQLMemory))
	if format := h.Get("X-ClickHouse-Format"); format != "" && !out.Has("default_format") {
		out.Set("default_format", format)
	}
	out.Set("database", databaseOf(in.Get("database"), h.Get("X-ClickHouse-Database"), database))
	return out, nil
}

// databaseOf is the database that bare table names mean. Clients that are told none ask for "default".
func databaseOf(param, header, ours string) string {
	for _, name := range []string{param, header} {
		if name != "" && name != "default" {
			return name
		}
	}
	return ours
}

// timeout is how long the statement may run: what the client asks for, but not more than its tenant may.
func timeout(in url.Values, l tenants.Limits) time.Duration {
	seconds, err := strconv.ParseFloat(in.Get("max_execution_time"), 64)
	if err != nil || !(seconds > 0 && seconds < l.QueryTimeout.Seconds()) {
		return l.QueryTimeout
	}
	return time.Duration(seconds * float64(time.Second))
}

// limit sets a setting to at most most, in whole numbers; zero or nothing would mean no limit.
func limit(out url.Values, name string, most float64) {
	asked, err := strconv.ParseFloat(out.Get(name), 64)
	if err != nil || !(asked > 0 && asked < most) {
		asked = most
	}
	out.Set(name, strconv.FormatFloat(math.Ceil(asked), 'f', -1, 64))
}

func hasPrefix(name string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) && len(name) > len(p) })
}

// requestHeaders are what ClickHouse may see of the request. Credentials, forwarding headers and anything that
// could name a tenant stay here.
var requestHeaders = []string{"User-Agent", "Traceparent", "Tracestate"}

func forwarded(in http.Header) http.Header {
	out := http.Header{}
	for _, name := range requestHeaders {
		if values := in.Values(name); len(values) > 0 {
			out[name] = values
		}
	}
	return out
}

package querylog

import (
	"encoding/json"
	"net/http"
	"strconv"
)

// ReadOf is what ClickHouse says in the header of an answer (X-ClickHouse-Summary) that it read. Of an answer that
// begins while it still reads, which those over 1 MiB may, it is what was to be read then: more than in the end when a
// LIMIT ends it. Zero when there is no such header.
func ReadOf(h http.Header) Read {
	var s struct {
		Rows    count `json:"read_rows"`
		Bytes   count `json:"read_bytes"`
		Planned count `json:"total_rows_to_read"`
		Result  count `json:"result_rows"` // 0 until the end
	}
	if json.Unmarshal([]byte(h.Get("X-ClickHouse-Summary")), &s) != nil {
		return Read{}
	}
	if s.Result == 0 && 0 < s.Rows && s.Rows < s.Planned {
		s.Bytes = count(float64(s.Bytes) / float64(s.Rows) * float64(s.Planned))
		s.Rows = s.Planned
	}
	return Read{int64(s.Rows), int64(s.Bytes)}
}

// count is a number that ClickHouse writes as a string, or as a number.
type count int64

func (c *count) UnmarshalJSON(text []byte) error {
	if len(text) > 1 && text[0] == '"' {
		text = text[1 : len(text)-1]
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	*c = count(max(n, 0))
	return err
}

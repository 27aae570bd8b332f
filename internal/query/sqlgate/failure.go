package sqlgate

import (
	"bytes"
	"io"
	"net/http"
	"regexp"
	"strconv"
)

// maxFailure is how much of an answer with an error is read to find the error's text, in bytes: rows that were ready
// before it come first.
const maxFailure = 8 << 20

// inside are parts of ClickHouse's errors that tell where the data lies.
var inside = regexp.MustCompile(`(?: ?from part|Received from) \S+(?: located on disk [^\s,]+(?: of type [^\s,]+)?)?` +
	`|/\S*/(?:store|data|metadata|user_files|tmp)/\S*`)

// scrub takes out of an error what is the operator's business: the names of ClickHouse's users, paths, servers.
func (g *Gateway) scrub(text string) string {
	if g.o.Hidden != nil {
		text = g.o.Hidden.Replace(text)
	}
	return inside.ReplaceAllString(text, "…")
}

// fail answers with ClickHouse's error, scrubbed, and returns it.
func (g *Gateway) fail(w http.ResponseWriter, answer *http.Response, framed bool) string {
	text, err := failureText(answer)
	if err != nil || text == "" {
		text = "Code: " + answer.Header.Get("X-ClickHouse-Exception-Code") + ". DB::Exception: the query failed with this code."
	}
	text = g.scrub(text)
	body := []byte(text)
	if framed {
		body = frame(nil, body)
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(answer.StatusCode)
	_, _ = w.Write(body) // the client has gone
	return text
}

func failureText(answer *http.Response) (string, error) {
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxFailure))
	if err != nil {
		return "", err
	}
	begins := []byte("Code: " + answer.Header.Get("X-ClickHouse-Exception-Code") + ". DB::Exception")
	return string(text[max(0, bytes.LastIndex(text, begins)):]), nil
}

package sqlgate

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// answerHeaders are passed on beside X-ClickHouse-*, of which the server's name is not a tenant's business.
var answerHeaders = []string{"Content-Type", "Content-Disposition"}

// pass streams the answer as it comes. ClickHouse reports an error in the middle inside the body, marked by
// X-ClickHouse-Exception-Tag; a connection that breaks is broken here too, so that nobody takes a part for all.
func (g *Gateway) pass(w http.ResponseWriter, answer *http.Response, asked *asked, encoding string, framed bool) {
	h := w.Header()
	for _, name := range answerHeaders {
		if values := answer.Header.Values(name); len(values) > 0 {
			h[name] = values
		}
	}
	for name, values := range answer.Header {
		if strings.HasPrefix(name, "X-Clickhouse-") && name != "X-Clickhouse-Server-Display-Name" {
			h[name] = values
		}
	}
	if id, ours := strings.CutPrefix(h.Get("X-ClickHouse-Query-Id"), string(asked.entry.Tenant)+":"); ours {
		h.Set("X-ClickHouse-Query-Id", id)
	}
	if answer.StatusCode != http.StatusOK {
		g.queries.WithLabelValues("upstream").Inc()
		asked.entry.Status = exceptionName(g.fail(w, answer, framed))
		return
	}
	g.queries.WithLabelValues("ok").Inc()
	if encoding != "" {
		h.Set("Content-Encoding", encoding)
		h.Add("Vary", "Accept-Encoding")
	} else if answer.ContentLength >= 0 && !framed {
		h.Set("Content-Length", strconv.FormatInt(answer.ContentLength, 10))
	}
	w.WriteHeader(answer.StatusCode)
	out := &flushing{w: w, c: http.NewResponseController(w)}
	text, err := g.copy(out, answer, encoding, framed)
	g.bytes.Add(float64(out.n))
	asked.entry.ResultBytes = out.n
	if text != "" {
		asked.entry.Status = exceptionName(text)
	}
	if err != nil {
		panic(http.ErrAbortHandler)
	}
}

// copy streams the body, compressed as asked. An error at its end is scrubbed, and returned as text.
func (g *Gateway) copy(to io.Writer, answer *http.Response, encoding string, framed bool) (text string, err error) {
	encoder := encoded(to, encoding, framed)
	t := newTail(flushed{encoder}, answer.Header.Get("X-ClickHouse-Exception-Tag"), g.scrub)
	if _, err := io.Copy(t, answer.Body); err != nil {
		err = errors.Join(err, t.finish()) // not closed: a part must not look whole
		return t.text, err
	}
	err = t.finish()
	return t.text, errors.Join(err, encoder.Close())
}

// flushing sends what it is given at once.
type flushing struct {
	w http.ResponseWriter
	c *http.ResponseController
	n int64 // bytes sent
}

func (f *flushing) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	f.n += int64(n)
	if err == nil {
		err = f.c.Flush()
	}
	if errors.Is(err, http.ErrNotSupported) {
		err = nil
	}
	return n, err
}

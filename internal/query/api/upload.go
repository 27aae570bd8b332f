package api

import (
	"io"
	"net/http"
	"time"
)

// uploadTime is how long the body of a request may take to arrive, of which none is longer than a megabyte.
var uploadTime = 20 * time.Second

// hurried gives a request's body a time by which it must have come. The deadline is lifted at its end: while the query runs,
// the server reads on only to see whether the client is still there.
func hurried(w http.ResponseWriter, r *http.Request, within time.Duration) {
	if r.Body == nil || r.Body == http.NoBody {
		return
	}
	c := http.NewResponseController(w)
	if c.SetReadDeadline(time.Now().Add(within)) != nil {
		return // a writer without a connection
	}
	r.Body = &upload{r.Body, c}
}

type upload struct {
	io.ReadCloser
	c *http.ResponseController
}

func (u *upload) Read(p []byte) (int, error) {
	n, err := u.ReadCloser.Read(p)
	if err == io.EOF {
		_ = u.c.SetReadDeadline(time.Time{}) // the connection is gone
	}
	return n, err
}

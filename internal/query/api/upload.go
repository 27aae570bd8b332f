package api

import (
	"net/http"
	"time"
)

// uploadTime is how long the body of a request may take to arrive, of which none is longer than a megabyte.
var uploadTime = 20 * time.Second

// hurried gives a request's body a time by which it must have come. The server lifts the deadline when it has: while
// the query runs it reads on only to see whether the client is still there.
func hurried(w http.ResponseWriter, r *http.Request, within time.Duration) {
	if r.Body != nil && r.Body != http.NoBody {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(within)) // or it is a writer without a connection
	}
}

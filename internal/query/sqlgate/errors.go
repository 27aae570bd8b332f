package sqlgate

import (
	"fmt"
	"net/http"
	"strconv"
)

// code is one of ClickHouse's error codes, with the HTTP status the gateway answers it with.
type code struct {
	number int
	name   string
	status int
}

var (
	syntaxError      = code{62, "SYNTAX_ERROR", http.StatusBadRequest}
	badArguments     = code{36, "BAD_ARGUMENTS", http.StatusBadRequest}
	unknownSetting   = code{115, "UNKNOWN_SETTING", http.StatusBadRequest}
	timeoutExceeded  = code{159, "TIMEOUT_EXCEEDED", http.StatusGatewayTimeout}
	readonly         = code{164, "READONLY", http.StatusForbidden}
	requiredPassword = code{194, "REQUIRED_PASSWORD", http.StatusUnauthorized}
	tooManyQueries   = code{202, "TOO_MANY_SIMULTANEOUS_QUERIES", http.StatusTooManyRequests}
	networkError     = code{210, "NETWORK_ERROR", http.StatusBadGateway}
	queryTooLarge    = code{223, "QUERY_IS_TOO_LARGE", http.StatusRequestEntityTooLarge}
	accessDenied     = code{497, "ACCESS_DENIED", http.StatusForbidden}
	authFailed       = code{516, "AUTHENTICATION_FAILED", http.StatusForbidden}
	notImplemented   = code{48, "NOT_IMPLEMENTED", http.StatusNotImplemented}
)

// Exception is an error in the form ClickHouse's clients read.
type Exception struct {
	code
	text string
}

func refuse(c code, format string, args ...any) *Exception {
	return &Exception{c, fmt.Sprintf(format, args...)}
}

func (e *Exception) Error() string {
	return fmt.Sprintf("Code: %d. DB::Exception: %s. (%s)", e.number, e.text, e.name)
}

// write answers with the exception, in ClickHouse's own compression when framed.
func (e *Exception) write(w http.ResponseWriter, framed bool) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=UTF-8")
	h.Set("X-ClickHouse-Exception-Code", strconv.Itoa(e.number))
	switch e.code {
	case requiredPassword:
		h.Set("WWW-Authenticate", `Basic realm="Vigie API key as password"`)
	case tooManyQueries:
		h.Set("Retry-After", "1")
	}
	body := []byte(e.Error() + "\n")
	if framed {
		body = frame(nil, body)
	}
	w.WriteHeader(e.status)
	_, _ = w.Write(body) // the client has gone
}

package sqlgate

import "io"

// Encoded is the writer of an answer in an encoding, or in ClickHouse's own; what is written is sent on at once.
func Encoded(w io.Writer, encoding string, framed bool) io.WriteCloser {
	return flushed{encoded(w, encoding, framed)}
}

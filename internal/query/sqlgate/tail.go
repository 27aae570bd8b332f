package sqlgate

import (
	"bytes"
	"fmt"
	"io"
	"strings"
)

// maxTail bounds the text of an error in the middle of an answer. What is longer goes on as it is cut.
const maxTail = 64 << 10

// tail passes an answer on, and scrubs the error that ClickHouse writes at the end of one whose status has been sent:
// behind a line __exception__ and the tag of its header X-ClickHouse-Exception-Tag, which no data can know, then again
// its length and the tag.
type tail struct {
	to     io.Writer
	scrub  func(string) string
	begin  []byte // what stands before the text
	end    string // what stands behind its length
	held   []byte // may be the beginning of begin, or begin and what followed
	broken bool   // held begins with begin
	text   string // after finish, the error's
}

func newTail(to io.Writer, tag string, scrub func(string) string) *tail {
	return &tail{to: to, scrub: scrub, begin: []byte("__exception__\r\n" + tag + "\r\n"),
		end: " " + tag + "\r\n__exception__\r\n"}
}

// Write implements io.Writer. What cannot be the beginning of an error is passed on at once.
func (t *tail) Write(p []byte) (int, error) {
	t.held = append(t.held, p...)
	if !t.broken {
		safe := t.safe()
		if _, err := t.to.Write(t.held[:safe]); err != nil {
			return 0, err
		}
		t.held = append(t.held[:0], t.held[safe:]...)
	}
	t.held = t.held[:min(len(t.held), maxTail)]
	return len(p), nil
}

// safe is how much of what is held stands before an error, or before what may become one.
func (t *tail) safe() int {
	if i := bytes.Index(t.held, t.begin); i >= 0 {
		t.broken = true
		return i
	}
	for n := min(len(t.held), len(t.begin)-1); n > 0; n-- {
		if bytes.HasSuffix(t.held, t.begin[:n]) {
			return len(t.held) - n
		}
	}
	return len(t.held)
}

// finish writes what is left when the answer has ended.
func (t *tail) finish() error {
	if !t.broken {
		_, err := t.to.Write(t.held)
		return err
	}
	text := string(t.held[len(t.begin):])
	if i := strings.LastIndexByte(strings.TrimSuffix(text, t.end), '\n'); i >= 0 {
		text = text[:i+1]
	}
	t.text = t.scrub(text)
	_, err := fmt.Fprintf(t.to, "%s%s%d%s", t.begin, t.text, len(t.text), t.end)
	return err
}

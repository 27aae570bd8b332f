package sqlgate

import (
	"bytes"
	"encoding/binary"
	"io"
	"net/http"
	"regexp"
	"strconv"

	"github.com/go-faster/city"
)

// maxFailure is how much of an answer with an error is read to find the error's text, in bytes: rows that were ready
// before it come first.
const maxFailure = 8 << 20

// inside are parts of ClickHouse's errors that tell where the data lies.
var inside = regexp.MustCompile(`(?: ?from part|Received from) \S+(?: located on disk [^\s,]+(?: of type [^\s,]+)?)?|/\S*/(?:store|data|metadata|user_files|tmp)/\S*`)

// scrub takes out of an error what is the operator's business: the names of ClickHouse's users, paths, servers.
func (g *Gateway) scrub(text string) string {
	if g.o.Hidden != nil {
		text = g.o.Hidden.Replace(text)
	}
	return inside.ReplaceAllString(text, "…")
}

// fail answers with ClickHouse's error, scrubbed. An encoding that cannot be read is answered with the code alone.
func (g *Gateway) fail(w http.ResponseWriter, answer *http.Response, framed bool) {
	text, err := failureText(answer, framed)
	if err != nil {
		number := answer.Header.Get("X-ClickHouse-Exception-Code")
		text = "Code: " + number + ". DB::Exception: the query failed with this code; send it without Accept-Encoding to read why."
	}
	body := []byte(g.scrub(text))
	if framed {
		body = frame(body)
	}
	h := w.Header()
	h.Del("Content-Encoding")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(answer.StatusCode)
	_, _ = w.Write(body) // the client has gone
}

func failureText(answer *http.Response, framed bool) (string, error) {
	reader, err := decoder(io.LimitReader(answer.Body, maxFailure), answer.Header.Get("Content-Encoding"))
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(io.LimitReader(reader, maxFailure))
	if err != nil {
		return "", err
	}
	begins := []byte("Code: " + answer.Header.Get("X-ClickHouse-Exception-Code") + ". DB::Exception")
	// Errors from before the query ran come plain, whatever was asked for.
	if framed && !bytes.HasPrefix(text, begins) {
		if text, err = io.ReadAll(io.LimitReader(&blocks{from: bytes.NewReader(text), most: maxFailure}, maxFailure)); err != nil {
			return "", err
		}
	}
	return string(text[max(0, bytes.LastIndex(text, begins)):]), nil
}

// frame is text in ClickHouse's own compression, as LZ4 that is all literals.
func frame(plain []byte) []byte {
	out := make([]byte, checksumSize, checksumSize+headerSize+len(plain)+len(plain)/255+16)
	out = append(out, methodLZ4, 0, 0, 0, 0, 0, 0, 0, 0)
	if n := len(plain); n < 15 {
		out = append(out, byte(n<<4))
	} else {
		out = append(out, 0xF0)
		for n -= 15; n >= 255; n -= 255 {
			out = append(out, 255)
		}
		out = append(out, byte(n))
	}
	out = append(out, plain...)
	binary.LittleEndian.PutUint32(out[checksumSize+1:], uint32(len(out)-checksumSize))
	binary.LittleEndian.PutUint32(out[checksumSize+5:], uint32(len(plain)))
	sum := city.CH128(out[checksumSize:])
	binary.LittleEndian.PutUint64(out, sum.Low)
	binary.LittleEndian.PutUint64(out[8:], sum.High)
	return out
}

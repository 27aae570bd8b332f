package clickhouse_test

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
)

// An error in the middle of an answer comes in ClickHouse's form, at its true length, without what is the operator's
// business.
func TestErrorInTheMiddleTellsNoInternals(t *testing.T) {
	_, client := migrated(t, nil)
	gateway := gate(t, client, nil)
	statement := "SELECT number, throwIf(number = 300000, 'reading from part /var/lib/clickhouse/data/store/x by vigie_view_owner') FROM numbers(1000000)"
	text, tag := brokenOff(t, gateway.URL+"/sql/", statement)
	if !strings.HasPrefix(text, "Code: 395. DB::Exception: reading… by …") || strings.Contains(text, "/var/lib") ||
		strings.Contains(text, "vigie_view_owner") {
		t.Errorf("got %q (tag %s), want the exception without path and user", text, tag)
	}
	// Rows that only look like an error pass as they are.
	status, body, _ := through(t, gateway, "acme", "SELECT '__exception__' || char(13, 10) || 'Code: 1. /a/data/b ' || number FROM numbers(100000)", url.Values{"default_format": {"RawBLOB"}})
	if n := strings.Count(body, "Code: 1. /a/data/b "); status != http.StatusOK || n != 100000 {
		t.Errorf("got %d and %d rows, want them all", status, n)
	}
	for _, accepted := range []string{"gzip", "zstd", "lz4", "br", "deflate"} {
		_, packed, _ := through(t, gateway, "acme", statement, url.Values{"default_format": {"Native"}}, "Accept-Encoding", accepted)
		packed, _, broken := strings.Cut(packed, "\n[broken off")
		_, text, _ := strings.Cut(begun(t, packed, accepted), "__exception__")
		if !broken || !strings.Contains(text, "Code: 395. DB::Exception: reading… by …") || strings.Contains(text, "/var/lib") {
			t.Errorf("%s: got %q, broken off %v, want the exception without path", accepted, text[max(0, len(text)-500):], broken)
		}
	}
	// An error before anything was sent, in ClickHouse's own compression, says what it is. On a machine that is busy
	// for long enough, something was.
	status, body, _ = through(t, gateway, "acme", statement, url.Values{"compress": {"1"}})
	head, _, broken := strings.Cut(body, "\n[broken off")
	if status == http.StatusOK != broken || len(head) < 60 || broken && !strings.Contains(head, "__exception__") ||
		strings.Contains(head, "/var/lib") {
		t.Errorf("compress=1: got %d and %q, want a message", status, head[max(0, len(head)-500):])
	}
}

// brokenOff runs a statement whose answer breaks off, and returns the text of its error.
func brokenOff(t *testing.T, address, statement string) (text, tag string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address+"?default_format=Native", strings.NewReader(statement))
	if err != nil {
		t.Fatal(err)
	}
	request.SetBasicAuth("anybody", "k-acme")
	request.Header.Set("Accept-Encoding", "identity")
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var body strings.Builder
	for buffer := make([]byte, 1<<16); ; {
		n, err := response.Body.Read(buffer)
		body.Write(buffer[:n])
		if err != nil {
			break
		}
	}
	tag = response.Header.Get("X-ClickHouse-Exception-Tag")
	_, after, ok := strings.Cut(body.String(), "\r\n__exception__\r\n"+tag+"\r\n")
	after, whole := strings.CutSuffix(after, " "+tag+"\r\n__exception__\r\n")
	i := strings.LastIndexByte(after, '\n')
	if response.StatusCode != http.StatusOK || !ok || !whole || i < 0 {
		t.Fatalf("got %d and %q, want an error in the middle", response.StatusCode, after)
	}
	text = after[:i+1]
	if n, err := strconv.Atoi(after[i+1:]); err != nil || n != len(text) {
		t.Errorf("got length %q of %d bytes", after[i+1:], len(text))
	}
	return text, tag
}

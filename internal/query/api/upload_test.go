package api_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/query/api"
)

// A body that does not come ends its request; one that has come is not hurried any more, however long the query takes.
func TestSlowUpload(t *testing.T) {
	s, _ := newAPI(t)
	api.SetUploadTime(t, 500*time.Millisecond)
	for _, path := range []string{"/api/v1/query", "/sql"} {
		connection, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer connection.Close()
		fmt.Fprintf(connection, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k-acme\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\nquery=1", path)
		_ = connection.SetReadDeadline(time.Now().Add(20 * time.Second))
		response, err := http.ReadResponse(bufio.NewReader(connection), nil)
		if err != nil {
			t.Fatalf("%s: %v, want an answer", path, err)
		}
		text, _ := io.ReadAll(response.Body)
		if response.StatusCode/100 != 4 {
			t.Errorf("%s: got %d %s, want the client's fault", path, response.StatusCode, text)
		}
	}
	// The same connection, twice, with a pause that is longer.
	for range 2 {
		response, err := http.Post(s.URL+"/sql?password=k-acme", "text/plain", strings.NewReader("SELECT sleep(1)"))
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != http.StatusOK {
			t.Errorf("a query of a second, body at once: got %d %s %v", response.StatusCode, text, err)
		}
		time.Sleep(700 * time.Millisecond)
	}
}

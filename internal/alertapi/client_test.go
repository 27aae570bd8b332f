package alertapi

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// A request is what API v2 takes, whatever the base address ends with.
func TestPost(t *testing.T) {
	var asked *http.Request
	var body []byte
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked = r
		body, _ = io.ReadAll(r.Body)
	}))
	defer server.Close()
	for _, base := range []string{server.URL + "/am", server.URL + "/am/"} {
		err := New(base, time.Minute).Post(t.Context(), []byte(`[{}]`), func(r *http.Request) { r.Header.Set("X-Scope-OrgID", "acme") })
		if err != nil {
			t.Fatal(err)
		}
		got := asked.Method + " " + asked.URL.Path + " " + asked.Header.Get("Content-Type") + " " + asked.Header.Get("X-Scope-OrgID") + " " + string(body)
		if want := "POST /am/api/v2/alerts application/json acme [{}]"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// A refusal shows the status and the beginning of the answer, and no password.
func TestPostRefused(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "bad label"+strings.Repeat("!", 10_000), http.StatusBadRequest)
	}))
	defer server.Close()
	base := strings.Replace(server.URL, "http://", "http://me:secret@", 1)
	err := New(base, time.Minute).Post(t.Context(), []byte(`[]`), func(*http.Request) {})
	if err == nil {
		t.Fatal("got no error, want the refusal")
	}
	text := err.Error()
	if !strings.Contains(text, "400 Bad Request: bad label!") || strings.Contains(text, "secret") || len(text) > 1000 {
		t.Errorf("got %q, want the status, the beginning of the answer and no password", text)
	}
	server.Close()
	if err := New(base, time.Minute).Post(t.Context(), []byte(`[]`), func(*http.Request) {}); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v, want an error without the password", err)
	}
}

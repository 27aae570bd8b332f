package telemetry

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// A receiver that refuses is told of once, and once more when it takes spans again; at the end it may be gone without a
// word.
func TestExportFailuresAreLoggedOnce(t *testing.T) {
	var status atomic.Int32
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(status.Load())) }))
	defer receiver.Close()
	var log bytes.Buffer
	tracing, err := NewTracing(t.Context(), TracingConfig{Endpoint: receiver.URL}, "s", "v", "", slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	f := func(answer int32, want string) {
		t.Helper()
		log.Reset()
		status.Store(answer)
		for range 3 {
			tracing.Handler(http.NotFoundHandler()).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
			_ = tracing.provider.(*sdktrace.TracerProvider).ForceFlush(t.Context())
		}
		if got := log.String(); strings.Count(got, "\n") > 1 || !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("got log %q, want one line with %q", got, want)
		}
	}
	f(http.StatusOK, "")
	f(http.StatusBadRequest, "are lost until")
	f(http.StatusBadRequest, "")
	f(http.StatusOK, "exported again")
	log.Reset()
	tracing.Handler(http.NotFoundHandler()).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
	status.Store(http.StatusBadRequest)
	if err := tracing.Close(context.WithoutCancel(t.Context())); err != nil || log.Len() > 0 {
		t.Errorf("at the end: got %v and log %q, want none", err, log.String())
	}
}

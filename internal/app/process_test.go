package app

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

// Who reads the log learns what a service waits for, without a line at every look.
func TestLogSaysWhyNotReady(t *testing.T) {
	f := func(want string, answers ...string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			var out bytes.Buffer
			undated := func(_ []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey {
					return slog.Attr{}
				}
				return a
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			untilReady(ctx, func(context.Context) error {
				if len(answers) == 0 {
					return nil
				}
				answer := answers[0]
				answers = answers[1:]
				return errors.New(answer)
			}, slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: undated})))
			if got := out.String(); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			if ctx.Err() != nil {
				t.Error("it looks on though the service is ready")
			}
		})
	}
	f("") // ready by the first look
	f("level=WARN msg=\"not ready\" err=\"run vigie migrate\"\nlevel=WARN msg=\"not ready\" err=\"no topics\"\nlevel=INFO msg=ready\n",
		"run vigie migrate", "run vigie migrate", "no topics", "no topics")
}

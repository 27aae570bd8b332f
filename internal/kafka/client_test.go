package kafka

import (
	"bytes"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// No request of any client waits long for brokers that are back already, and none gives up by the number of its tries.
func TestRetriesFollowTheBrokers(t *testing.T) {
	cfg := DefaultConfig()
	options, err := cfg.options("test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	wait := client.OptValue(kgo.RetryBackoffFn).(func(int) time.Duration)
	total := time.Duration(0)
	for failures := range int(client.OptValue(kgo.RequestRetries).(int64)) {
		got := wait(failures)
		if got < minBackoff/2 || got > maxBackoff*6/5 {
			t.Errorf("%d failures: got a wait of %s, want %s to %s", failures, got, minBackoff/2, maxBackoff*6/5)
		}
		total += got
	}
	if total < cfg.SessionTimeout {
		t.Errorf("all tries take %s, want more than the session timeout (%s)", total, cfg.SessionTimeout)
	}
}

// While a broker is down its clients warn several times a second, each of the same. Somebody reads that.
func TestLoggerSaysEachWarningOnceInAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		undated := func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}
		l := &logger{slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: undated})), &warnings{}}
		for i := range 50 { // 25 s
			l.Log(kgo.LogLevelWarn, "group manage loop errored", "consecutive_errors", i)
			l.Log(kgo.LogLevelWarn, "unable to open connection", "addr", "a:1")
			l.Log(kgo.LogLevelInfo, "detail")
			if i == 0 {
				l.Log(kgo.LogLevelError, "unable to open connection", "addr", "b:1")
			}
			time.Sleep(500 * time.Millisecond)
		}
		want := `level=WARN msg="group manage loop errored" consecutive_errors=0
level=WARN msg="unable to open connection" addr=a:1
level=WARN msg="unable to open connection" addr=b:1
level=WARN msg="group manage loop errored" consecutive_errors=20 omitted=19
level=WARN msg="unable to open connection" addr=a:1 omitted=19
level=WARN msg="group manage loop errored" consecutive_errors=40 omitted=19
level=WARN msg="unable to open connection" addr=a:1 omitted=19
`
		if got := out.String(); got != want {
			t.Errorf("got\n%swant\n%s", got, want)
		}
	})
}

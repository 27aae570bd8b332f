package kafka

import (
	"log/slog"
	"testing"
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

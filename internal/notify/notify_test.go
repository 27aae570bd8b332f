package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vigie-io/vigie/internal/alertapi"
)

func message(tenant, name, fingerprint, state string, at time.Time) []byte {
	ends := ""
	if state == stateResolved {
		ends = fmt.Sprintf(`,"ends_at":%q`, at.Format(time.RFC3339))
		at = at.Add(-time.Minute)
	}
	return fmt.Appendf(nil, `{"version":1,"tenant":%q,"alert":%q,"state":%q,"severity":"P1","labels":{"host":"a"},"fingerprint":%q,"starts_at":%q%s}`,
		tenant, name, state, fingerprint, at.Format(time.RFC3339), ends)
}

// fakeSource gives what a test puts into it.
type fakeSource chan Fetch

func (s fakeSource) Poll(ctx context.Context) (Fetch, error) {
	select {
	case f, open := <-s:
		if !open {
			return Fetch{}, errors.New("the session is lost")
		}
		return f, nil
	case <-ctx.Done():
		return Fetch{}, nil
	}
}

// listener is an Alertmanager that notes what it gets.
type listener struct {
	mu     sync.Mutex
	heard  []alertapi.Alert
	auth   []string
	refuse bool
}

func (l *listener) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.auth = append(l.auth, r.Header.Get("Authorization"))
	var alerts []alertapi.Alert
	if err := json.NewDecoder(r.Body).Decode(&alerts); err != nil || l.refuse || r.URL.Path != "/base/api/v2/alerts" || r.Method != http.MethodPost {
		http.Error(w, "not today", http.StatusBadRequest)
		return
	}
	l.heard = append(l.heard, alerts...)
}

func (l *listener) waitFor(t *testing.T, n int) []alertapi.Alert {
	t.Helper()
	for range 3000 {
		l.mu.Lock()
		heard := slices.Clone(l.heard)
		l.mu.Unlock()
		if len(heard) >= n {
			return heard
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("an Alertmanager heard of %d alerts in 30 s, want %d", len(l.heard), n)
	return nil
}

// Each Alertmanager hears of each alert as its API wants it, whoever else is down; history is not sent.
func TestNotifier(t *testing.T) {
	up, down := &listener{}, &listener{refuse: true}
	first, second := httptest.NewServer(up), httptest.NewServer(down)
	defer first.Close()
	defer second.Close()
	cfg := DefaultConfig()
	cfg.URLs, cfg.Token = []string{first.URL + "/base/", second.URL + "/base"}, "sesame"
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	source, now := make(fakeSource), time.Now().UTC().Truncate(time.Second)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- New(cfg, NewMetrics(nil), slog.New(slog.DiscardHandler)).Run(ctx, source) }()
	record := func(value []byte) Record { return Record{Partition: 1, Time: now, Value: value} }
	source <- Fetch{Records: []Record{record(message("acme", "Busy", "f1", stateFiring, now)), record([]byte("{")), record(message("acme", "Slow", "f2", stateFiring, now))}}
	source <- Fetch{Records: []Record{record(message("acme", "Busy", "f1", stateResolved, now))}, Ready: []int32{1}}
	heard := up.waitFor(t, 2)
	if got, want := heard[0], (alertapi.Alert{Labels: map[string]string{"tenant": "acme", "alertname": "Busy", "severity": "P1", "host": "a"}, StartsAt: now.Add(-time.Minute), EndsAt: now}); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := heard[1]; got.Labels["alertname"] != "Slow" || got.EndsAt.Before(now.Add(3*cfg.Resend)) {
		t.Errorf("got %v, want Slow until four times resend from now", got)
	}
	if up.auth[0] != "Bearer sesame" {
		t.Errorf("got Authorization %q, want the token", up.auth[0])
	}
	down.mu.Lock()
	down.refuse = false
	down.mu.Unlock()
	down.waitFor(t, 2)
	source <- Fetch{Lost: []int32{1}}
	source <- Fetch{Records: []Record{record(message("demo", "Busy", "f3", stateFiring, now))}, Ready: []int32{1}}
	if heard := up.waitFor(t, 3); heard[2].Labels["tenant"] != "demo" || len(heard) != 3 {
		t.Errorf("got %v, want only demo's", heard[2:])
	}
	close(source)
	if err := <-done; err == nil {
		t.Error("a source that ends: got no error")
	}
	cancel()
}

// An alert that fires is sent again every resend, one that has ended for a quarter of an hour; an Alertmanager that
// does not answer is tried less and less often, and hears of it when it is back.
func TestLaneInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var mu sync.Mutex
		var got []string
		began, fail, attempts := time.Now(), false, 0
		l := &lane{
			name: "one", resend: time.Minute, book: newBook(), metrics: NewMetrics(nil), log: slog.New(slog.DiscardHandler), changed: make(chan struct{}, 1),
			post: func(_ context.Context, alerts []alertapi.Alert) error {
				mu.Lock()
				defer mu.Unlock()
				attempts++
				if fail {
					return errors.New("down")
				}
				for _, a := range alerts {
					got = append(got, fmt.Sprint(a.Labels["alertname"], " ", time.Since(began), " until ", a.EndsAt.Sub(began)))
				}
				return nil
			},
		}
		done := make(chan struct{})
		go func() { defer close(done); l.run(ctx) }()
		take := func(state string) {
			a, err := parseAlert(message("acme", "Busy", "f1", state, time.Now()))
			if err != nil {
				t.Fatal(err)
			}
			a.written = time.Now()
			l.book.take(1, a)
			l.book.ready(1)
		}
		expect := func(want ...string) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
			got = nil
		}
		time.Sleep(time.Second)
		take(stateFiring)
		expect("Busy 1s until 4m1s")
		time.Sleep(2 * time.Minute)
		expect("Busy 1m1s until 5m1s", "Busy 2m1s until 6m1s")
		mu.Lock()
		fail, attempts = true, 0
		mu.Unlock()
		take(stateResolved)
		time.Sleep(5 * time.Minute)
		expect()
		mu.Lock()
		if attempts < 10 || attempts > 20 {
			t.Errorf("got %d attempts in 5 minutes, want them to become rare", attempts)
		}
		fail = false
		mu.Unlock()
		time.Sleep(maxBackoff)
		synctest.Wait()
		mu.Lock()
		if len(got) != 1 || !strings.HasSuffix(got[0], "until 2m1s") {
			t.Errorf("got %q, want the end of 2m1s", got)
		}
		mu.Unlock()
		time.Sleep(time.Hour)
		synctest.Wait()
		mu.Lock()
		if len(got) > 11 || len(l.book.partitions[1].alerts) != 0 {
			t.Errorf("an hour after its end it was sent %d times, and %d are remembered", len(got), len(l.book.partitions[1].alerts))
		}
		mu.Unlock()
		cancel()
		<-done
	})
}

func TestPosted(t *testing.T) {
	a := &alert{Tenant: "acme", Name: "Busy", Severity: "P0", Route: "oncall", Labels: map[string]string{"tenant": "other", "route": "/pay", "host": "a"}, State: stateFiring}
	until := time.Unix(100, 0)
	want := map[string]string{"tenant": "acme", "exported_tenant": "other", "alertname": "Busy", "severity": "P0", "route": "oncall", "exported_route": "/pay", "host": "a"}
	if got := a.post(until); fmt.Sprint(got.Labels) != fmt.Sprint(want) || !got.EndsAt.Equal(until) {
		t.Errorf("got %v, want %v", got, want)
	}
	a.Route = ""
	if got := a.post(until).Labels; got["route"] != "/pay" || got["exported_route"] != "" {
		t.Errorf("without a route: got %v, want the alert's own", got)
	}
}

func FuzzParseAlert(f *testing.F) {
	f.Add(message("acme", "Busy", "f1", stateFiring, time.Unix(100, 0)))
	f.Add([]byte(`{"labels":null,"state":"resolved"}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		a, err := parseAlert(value)
		if err != nil {
			return
		}
		p := a.post(time.Now())
		if p.Labels["tenant"] != a.Tenant || p.Labels["alertname"] != a.Name || p.EndsAt.IsZero() {
			t.Errorf("%s: got %v", value, p)
		}
	})
}

func TestConfigErrors(t *testing.T) {
	f := func(want string, change func(*Config)) {
		t.Helper()
		cfg := DefaultConfig()
		change(&cfg)
		err := cfg.Validate()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("got %v, want %q", err, want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%v shows a password", err)
		}
	}
	f("", func(c *Config) { c.URLs = []string{"http://am:9093", "https://am/path/"} })
	f("want http://host:port", func(c *Config) { c.URLs = []string{"am:9093"} })
	f("want http://host:port", func(c *Config) { c.URLs = []string{"http://a:hunter2@am:9093"} })
	f("want http://host:port", func(c *Config) { c.URLs = []string{"http://[::1"} })
	f("username and token", func(c *Config) { c.Username, c.Token = "a", "b" })
	f("resend 0s", func(c *Config) { c.Resend = 0 })
	f("timeout -1s", func(c *Config) { c.Timeout = -time.Second })
}

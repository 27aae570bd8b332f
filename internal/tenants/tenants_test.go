package tenants_test

import (
	"context"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/tenants"
)

func TestValidate(t *testing.T) {
	for _, good := range []tenants.ID{"a", "acme", "Acme-1.eu_west", "0", tenants.ID(strings.Repeat("x", 64))} {
		if err := tenants.Validate(good); err != nil {
			t.Errorf("%q: got %v, want no error", good, err)
		}
	}
	for _, bad := range []tenants.ID{"", ".a", "_vigie", "a#1", "a b", "é", "a\x00", "a/b", tenants.ID(strings.Repeat("x", 65))} {
		if err := tenants.Validate(bad); err == nil {
			t.Errorf("%q: got no error, want one", bad)
		}
	}
}

func TestContext(t *testing.T) {
	if id, ok := tenants.FromContext(context.Background()); ok {
		t.Errorf("empty context: got %q, want none", id)
	}
	if id, ok := tenants.FromContext(tenants.NewContext(context.Background(), "acme")); !ok || id != "acme" {
		t.Errorf("got %q %v, want acme true", id, ok)
	}
}

// Every field is listed by hand in For and validate: a forgotten one must not pass.
func TestEveryLimitIsMergedAndValidated(t *testing.T) {
	for i := range reflect.TypeFor[tenants.Limits]().NumField() {
		name := reflect.TypeFor[tenants.Limits]().Field(i).Tag.Get("yaml")

		var override tenants.Limits
		reflect.ValueOf(&override).Elem().Field(i).SetInt(7)
		config := tenants.DefaultConfig()
		config.Overrides = map[tenants.ID]tenants.Limits{"acme": override}
		want := config.Defaults
		reflect.ValueOf(&want).Elem().Field(i).SetInt(7)
		if got := config.For("acme"); got != want {
			t.Errorf("override of %s: got %+v, want %+v", name, got, want)
		}
		if got := config.For("demo"); got != config.Defaults {
			t.Errorf("%s: the override of acme changed demo", name)
		}

		config = tenants.DefaultConfig()
		reflect.ValueOf(&config.Defaults).Elem().Field(i).SetInt(0)
		if err := config.Validate(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s at zero: got %v, want an error that names it", name, err)
		}
	}
}

func TestConfigValidate(t *testing.T) {
	f := func(overrides map[tenants.ID]tenants.Limits, want string) {
		t.Helper()
		config := tenants.DefaultConfig()
		config.Overrides = overrides
		err := config.Validate()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	f(nil, "")
	f(map[tenants.ID]tenants.Limits{"acme": {Burst: time.Second}}, "")
	f(map[tenants.ID]tenants.Limits{"acme": {EventsPerSecond: -1}}, "acme: events_per_second")
	f(map[tenants.ID]tenants.Limits{"a#b": {}}, "a#b")
	f(map[tenants.ID]tenants.Limits{"acme": {Shards: 5000}}, "shards")
}

// Readers of replaced limits see one configuration or the other, never some of each.
func TestLive(t *testing.T) {
	config := func(n int) tenants.Config {
		c := tenants.DefaultConfig()
		c.Overrides = map[tenants.ID]tenants.Limits{"acme": {ActiveSeries: n, MaxLabels: n}}
		return c
	}
	live := tenants.NewLive(config(1))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 1000 {
				if l := live.For("acme"); l.ActiveSeries != l.MaxLabels {
					t.Errorf("got %d series and %d labels, want both of one configuration", l.ActiveSeries, l.MaxLabels)
				}
			}
		})
	}
	for n := range 1000 {
		live.Replace(config(n + 1))
	}
	wg.Wait()
	if got := live.Config().For("acme").ActiveSeries; got != 1000 {
		t.Errorf("got %d, want the last configuration's 1000", got)
	}
	if got, want := live.Config().For("demo").ActiveSeries, tenants.DefaultConfig().Defaults.ActiveSeries; got != want {
		t.Errorf("without an override: got %d, want %d", got, want)
	}
}

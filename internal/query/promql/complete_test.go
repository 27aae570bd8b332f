package promql_test

import (
	"errors"
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
)

// Many tenants' watermarks are read at once, each its own, and serve the queries that follow.
func TestComplete(t *testing.T) {
	s := newServer(t)
	var of []tenants.ID
	want := map[tenants.ID]time.Time{}
	for i := range 1500 {
		tenant := tenants.ID(fmt.Sprint("t", i))
		of = append(of, tenant)
		want[tenant] = s.now.Add(-time.Duration(i%2) * 10 * time.Second)
		s.store.upTo(tenant, want[tenant], s.now)
	}
	s.store.add(t, "t1", events.Delta, "hits_total", nil, event{epoch, 1})
	got, stored, err := s.service.Complete(t.Context(), of)
	if !stored.Equal(s.now) {
		t.Errorf("got all stored that was appended before %s, want %s", stored, s.now)
	}
	if err != nil || len(got) != len(of) {
		t.Fatalf("got %d watermarks, %v, want %d", len(got), err, len(of))
	}
	for tenant, at := range want {
		if !got[tenant].Equal(at) {
			t.Fatalf("%s: got %s, want %s", tenant, got[tenant], at)
		}
	}
	if s.store.asked != 2 {
		t.Errorf("got %d reads of progress for 1500 tenants, want 2", s.store.asked)
	}
	if a := s.do("t1", "GET", "/query", url.Values{"query": {"hits_total"}}); a.code != 200 || s.store.asked != 2 {
		t.Errorf("a query behind it: got %d %s and %d reads of progress, want 2", a.code, a.body, s.store.asked)
	}
	s.store.fail = errors.New("gone")
	if _, _, err := s.service.Complete(t.Context(), of); err == nil {
		t.Error("without the database: got no error")
	}
}

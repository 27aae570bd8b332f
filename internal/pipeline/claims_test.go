package pipeline_test

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/tenants"
)

// Whatever keys and headers came before, a record is its own tenant's: that of the header, else what stands in the key
// before '#'.
func TestKeysOfManyKinds(t *testing.T) {
	f := func(key, header, want string) {
		t.Helper()
		task := newTask(nil)
		sent := func(key, header string) pipeline.Record {
			r := record(key, event(start, "m", ""))
			if header != "" {
				r.Headers = []pipeline.Header{{Key: pipeline.HeaderTenant, Value: []byte(header)}}
			}
			return r
		}
		for range 2 {
			for _, key := range []string{"acme", "acme#3", "acme#", "globex", "globex#3", "a",
				"long-name-of-a-tenant-that-is-near-its-limit"} {
				step(task, start, sent(key, ""))
			}
			step(task, start, sent("acme#3", "globex"), sent("globex", "acme"), sent("", "acme"))
		}
		drain(task, start)
		task.Committed(false)
		for range 2 { // the second is known
			step(task, start, sent(key, header))
		}
		wanted := map[string]uint64{want: 2}
		if want == "" {
			wanted = map[string]uint64{}
		}
		if got := taken(drain(task, start)); !reflect.DeepEqual(got, wanted) {
			t.Errorf("key %q, header %q: got %v, want %v", key, header, got, wanted)
		}
	}
	f("acme", "", "acme")
	f("acme#3", "", "acme")
	f("acme#7", "", "acme")
	f("acme#", "", "acme")
	f("globex#3", "", "globex")
	f("a", "", "a")
	f("long-name-of-a-tenant-that-is-near-its-limit", "", "long-name-of-a-tenant-that-is-near-its-limit")
	f("long-name-of-a-tenant-that-is-near-its-limit#12", "", "long-name-of-a-tenant-that-is-near-its-limit")
	f("acme#3", "globex", "globex")
	f("acme", "globex", "globex")
	f("", "acme", "acme")
	f("acme", "new", "new")
	f("new", "", "new")
	f("globex", "acme#3", "") // a key of a tenant is no name of one
	f("acme#3", "acme#3", "")
	f("#3", "", "")
}

// A key that names a shard the tenant has not is of another shard when the tenant has another number of them.
func TestShardsChange(t *testing.T) {
	shards := func(n int) *tenants.Config {
		limits := tenants.DefaultConfig()
		limits.Overrides = map[tenants.ID]tenants.Limits{"hot": {StreamEventsPerSecond: 10 * n, Shards: n}} // of 2 s: 20 events a shard
		return &limits
	}
	limits := shards(4)
	task := newTask(func(c *pipeline.TaskConfig) { c.Limits = func() *tenants.Config { return limits } })
	sent := func(key string, n int) {
		for i := range n {
			step(task, start, record(key, event(start, "m", fmt.Sprintf(`"n":"%d"`, i%3))))
		}
	}
	sent("hot#77", 20) // the shard 1
	drain(task, start)
	limits = shards(3)
	task.Committed(false)
	sent("hot#2", 15)
	sent("hot#77", 15) // the shard 2, where 5 more may come
	if got := taken(drain(task, start))["hot"]; got != 20 {
		t.Errorf("got %d events taken, want 20", got)
	}
}

package kafka_test

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/kafka"
	"github.com/vigie-io/vigie/internal/tenants"
)

// runShards is a process that evaluates rules: shards come out as they are opened, and stay until they are taken away.
func runShards(t *testing.T, cfg kafka.Config) (opened <-chan *kafka.RuleShard, stop func()) {
	t.Helper()
	shards := make(chan *kafka.RuleShard, 100)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		err := kafka.RunRuleShards(ctx, cfg, slog.New(slog.DiscardHandler), func(ctx context.Context, s *kafka.RuleShard) error {
			shards <- s
			<-ctx.Done()
			return ctx.Err()
		})
		if err != nil {
			t.Errorf("run rule shards: %v", err)
		}
	})
	return shards, func() { cancel(); running.Wait() }
}

// shardsOf waits for n shards, by number.
func shardsOf(t *testing.T, opened <-chan *kafka.RuleShard, n int) map[int32]*kafka.RuleShard {
	t.Helper()
	shards := map[int32]*kafka.RuleShard{}
	for len(shards) < n {
		select {
		case s := <-opened:
			number, of := s.Partition()
			if of != 4 {
				t.Fatalf("got shard %d of %d, want 4", number, of)
			}
			shards[number] = s
		case <-time.After(30 * time.Second):
			t.Fatalf("got %d shards, want %d", len(shards), n)
		}
	}
	return shards
}

func states(t *testing.T, s *kafka.RuleShard) map[string][]byte {
	t.Helper()
	got, err := s.Restore(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// One process has all shards, two share them, and who takes one over finds what was committed.
func TestRuleShardsMove(t *testing.T) {
	_, cfg := fake(t)
	opened, stop := runShards(t, cfg)
	for number, s := range shardsOf(t, opened, 4) {
		key := string(rune('a' + number))
		commit := func(value string) {
			t.Helper()
			states := map[string][]byte{key: []byte(value), "gone": []byte("x")}
			if value == "2" {
				states["gone"] = nil
			}
			if err := s.Commit(deadline(t), map[tenants.ID][][]byte{"acme": {[]byte("[]")}}, states); err != nil {
				t.Fatal(err)
			}
		}
		commit("1")
		commit("2")
	}
	other := cfg
	other.Instance = "second"
	openedThere, stopThere := runShards(t, other)
	there := shardsOf(t, openedThere, 2)
	for number, s := range there {
		if got := states(t, s); len(got) != 1 || string(got[string(rune('a'+number))]) != "2" {
			t.Errorf("shard %d: got %q, want what the first process committed", number, got)
		}
	}
	stopThere()
	stop()
}

// Whoever opens a shard ends the transactions of the one before, who commits nothing any more.
func TestRuleShardFences(t *testing.T) {
	_, cfg := fake(t)
	opened, stop := runShards(t, cfg)
	defer stop()
	before := shardsOf(t, opened, 4)
	if err := before[1].Commit(deadline(t), nil, map[string][]byte{"a": []byte("1")}); err != nil {
		t.Fatal(err)
	}
	// A process that believes itself alone: of another group, on the same shards.
	other := cfg
	other.Group += "-lost"
	openedThere, stopThere := runShards(t, other)
	defer stopThere()
	after := shardsOf(t, openedThere, 4)
	if got := states(t, after[1]); string(got["a"]) != "1" {
		t.Errorf("got %q, want what was committed", got)
	}
	err := before[1].Commit(deadline(t), map[tenants.ID][][]byte{"acme": {[]byte("[]")}}, map[string][]byte{"a": []byte("late")})
	if !errors.Is(err, kafka.ErrFenced) {
		t.Errorf("a commit of the shard's last owner: got %v, want it fenced", err)
	}
	if err := after[1].Commit(deadline(t), nil, map[string][]byte{"b": []byte("2")}); err != nil {
		t.Fatal(err)
	}
	got := states(t, after[1])
	keys := []string{}
	for key, value := range got {
		keys = append(keys, key+"="+string(value))
	}
	slices.Sort(keys)
	if !slices.Equal(keys, []string{"a=1", "b=2"}) {
		t.Errorf("got %v, want a=1 b=2", keys)
	}
}

// Who follows is given what was committed of all shards, then what is committed later, in order, and nothing of
// transactions that came to nothing.
func TestRuleStatesAreFollowed(t *testing.T) {
	_, cfg := fake(t)
	opened, stop := runShards(t, cfg)
	defer stop()
	shards := shardsOf(t, opened, 4)
	commit := func(shard int32, states map[string][]byte) {
		t.Helper()
		if err := shards[shard].Commit(deadline(t), nil, states); err != nil {
			t.Fatal(err)
		}
	}
	commit(0, map[string][]byte{"a": []byte("1")})
	commit(3, map[string][]byte{"b": []byte("1")})
	type change struct{ key, state string }
	changes := make(chan change, 100)
	ctx, cancel := context.WithCancel(t.Context())
	var following sync.WaitGroup
	following.Go(func() {
		err := kafka.FollowRuleStates(ctx, cfg, slog.New(slog.DiscardHandler), func(key string, state []byte) {
			if state == nil {
				state = []byte("forgotten")
			}
			changes <- change{key, string(state)}
		})
		if err != nil {
			t.Errorf("follow: %v", err)
		}
	})
	defer func() { cancel(); following.Wait() }()
	got := map[string]string{}
	until := func(want map[string]string) {
		t.Helper()
		for !maps.Equal(got, want) {
			select {
			case c := <-changes:
				got[c.key] = c.state
			case <-time.After(30 * time.Second):
				t.Fatalf("got %v, want %v", got, want)
			}
		}
	}
	until(map[string]string{"a": "1", "b": "1"})
	commit(0, map[string][]byte{"a": []byte("2")})
	commit(3, map[string][]byte{"b": nil, "c": []byte("1")})
	until(map[string]string{"a": "2", "b": "forgotten", "c": "1"})
}

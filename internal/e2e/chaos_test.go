package e2e

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/testkit"
)

// Sizes of TestChaos; the defaults suit CI. `make chaos N=100 SEED=7` sets them for a person.
const (
	envKills   = "VIGIE_CHAOS_KILLS"
	envSeed    = "VIGIE_CHAOS_SEED"
	envRate    = "VIGIE_CHAOS_RATE"
	envGroup   = "VIGIE_CHAOS_PROTOCOL" // kafka.group_protocol of the workers
	envBrokers = "VIGIE_CHAOS_BROKERS"
	envSummary = "VIGIE_CHAOS_SUMMARY" // a file for the last line

	defaultChaos = 6
	chaosRate    = 2000 // events a second
	chaosWorkers = 3    // processes
)

// blow is one thing that is done to the installation.
type blow struct {
	target string        // "worker", "freeze", "clickhouse", "broker"
	worker int           // for worker and freeze
	after  time.Duration // since the last blow was over
	down   time.Duration // before what was killed starts again
}

// planBlows draws n blows in random order: a tenth strike the broker, a fifth ClickHouse (each at least one), and in
// longer runs some freeze a worker beyond its session, and what it does when it wakes must not count. All others kill
// workers.
func planBlows(random *rand.Rand, n int) []blow {
	plan := make([]blow, n)
	targets := []struct {
		name  string
		count int
	}{{"broker", max(n/10, 1)}, {"clickhouse", max(n/5, 1)}, {"freeze", n / 25}, {"worker", n}}
	at := 0
	for _, target := range targets {
		for range target.count {
			if at == n {
				break
			}
			plan[at] = blow{
				target: target.name, worker: random.IntN(chaosWorkers),
				after: time.Duration(300+random.IntN(2500)) * time.Millisecond, down: time.Duration(random.IntN(1200)) * time.Millisecond,
			}
			if target.name == "freeze" {
				plan[at].down = 8 * time.Second
			}
			at++
		}
	}
	random.Shuffle(n, func(i, j int) { plan[i], plan[j] = plan[j], plan[i] })
	return plan
}

// planned is about how long the plan takes.
func planned(plan []blow) (total time.Duration) {
	for _, b := range plan {
		total += b.after + b.down
		switch b.target {
		case "broker":
			total += 6 * time.Second
		case "clickhouse":
			total += 2 * time.Second
		}
	}
	return total
}

// TestChaos kills workers, ClickHouse and the broker at random under load from a plain producer, and compares what is
// stored with a plain loop over what was sent, and with what `vigie verify` reads from the log.
func TestChaos(t *testing.T) {
	if testing.Short() {
		t.Skip("kills real servers for a minute")
	}
	n, rate := number(t, envKills, defaultChaos), number(t, envRate, chaosRate)
	seed := number(t, envSeed, 1)
	t.Logf("seed %d: run again with make chaos N=%d SEED=%d", seed, n, seed)
	plan := planBlows(rand.New(rand.NewPCG(uint64(seed), 0)), n)
	c := newChaos(t)
	l := &load{
		random: rand.New(rand.NewPCG(uint64(seed), 1)), series: 400, start: time.Now().Unix()/60*60 - 600, span: 300,
		events: rate * int((planned(plan)*5/4+5*time.Second)/time.Second),
	}
	o := newOracle()
	produced := make(chan struct{})
	ctx, cancel := context.WithTimeout(t.Context(), planned(plan)*4+5*time.Minute)
	defer cancel()
	go func() { defer close(produced); produce(ctx, t, c.broker.Addr, c.topic("metrics"), l, o, rate) }()
	kills, faults, idle := 0, 0, 0
	for i, b := range plan {
		time.Sleep(b.after)
		select {
		case <-produced:
			idle++
		default:
		}
		c.strike(&b)
		if b.target == "worker" {
			kills++
		} else {
			faults++
		}
		t.Logf("%d of %d: %s, down for %s", i+1, n, c.name(&b), b.down)
		c.write("blows.log", "%d of %d is over: %s, down for %s", i+1, n, c.name(&b), b.down)
	}
	<-produced
	if idle > 0 {
		t.Logf("%d of %d blows came after the load had ended", idle, n)
	}
	lost, doubled := c.settle(o)
	if lost+doubled > 0 {
		c.transactions()
	}
	verified := c.verify()
	verdict := fmt.Sprintf("%d events, %d kills, %d faults: %d lost, %d doubled", l.events, kills, faults, lost, doubled)
	if path := os.Getenv(envSummary); path != "" {
		if err := os.WriteFile(path, []byte(verdict+"\n"), 0o644); err != nil {
			t.Error(err)
		}
	}
	c.tell()
	if lost+doubled > 0 || !verified {
		t.Errorf("seed %d: %s (vigie verify agrees: %v)", seed, verdict, verified)
		_, _, _, missing := c.wrong(o)
		c.autopsy(missing)
	} else {
		c.compareRollups(o) // sums and extremes too
	}
	t.Log(verdict)
}

// chaos is an installation that can be struck.
type chaos struct {
	*installation
	workers []*program
	listens []string // of workers
	config  string   // file

	evidence string // directory
}

// chaosRollups are of every kind of window and late policy, and one of panes: `vigie verify` recounts them.
const chaosRollups = `stream:
  rollups:
    - {name: chaos_panes, from: metrics, by: [service]}
    - {name: chaos_tumbling, from: metrics, measure: events, by: [service], window: {tumbling: 20s, allowed_lateness: 1h}}
    - name: chaos_hopping
      from: metrics
      by: [service]
      window: {hopping: {size: 60s, every: 20s}, allowed_lateness: 1h, late: merge}
      keep: {first: true, last: true, distinct: route, top: {of: route, k: 3}}
    - {name: chaos_sessions, from: metrics, by: [service], window: {session: {gap: 5s, by: [route]}, allowed_lateness: 1h}}
    - {name: chaos_diverted, from: metrics, by: [service], window: {tumbling: 10s, late: divert}}
`

func newChaos(t testing.TB) *chaos {
	t.Helper()
	config := filepath.Join(t.TempDir(), "vigie.yaml")
	if err := os.WriteFile(config, []byte(chaosRollups), 0o600); err != nil {
		t.Fatal(err)
	}
	broker := testkit.MortalCluster(t, number(t, envBrokers, 1))
	dir := evidence(t)
	broker.KeepLogs(dir)
	c := &chaos{evidence: dir, installation: install(t, broker, []string{"query"},
		// A frozen worker is to lose its session while it is frozen.
		"VIGIE_STREAM_WORKERS=1", "VIGIE_KAFKA_SESSION_TIMEOUT=6s", "VIGIE_KAFKA_TRANSACTION_TIMEOUT=10s",
		"VIGIE_KAFKA_GROUP_PROTOCOL="+cmp.Or(os.Getenv(envGroup), "classic"),
	), config: config}
	for i := range chaosWorkers {
		addr := testkit.FreeAddr(t)
		env := slices.Concat(c.env, []string{"VIGIE_KAFKA_INSTANCE=worker-" + strconv.Itoa(i), "VIGIE_STREAM_LISTEN=" + addr})
		c.workers = append(c.workers, startKept(t, testkit.BuildBinary(t, "./cmd/stream"), []string{"-config", config}, env, filepath.Join(dir, fmt.Sprintf("worker-%d.log", i))))
		c.listens = append(c.listens, addr)
		c.awaitReady("http://" + addr)
	}
	return c
}

func (c *chaos) name(b *blow) string {
	switch b.target {
	case "worker":
		return fmt.Sprintf("worker %d killed", b.worker)
	case "freeze":
		return fmt.Sprintf("worker %d frozen", b.worker)
	}
	return b.target + " killed"
}

// strike does one blow and waits until what was struck is up again.
func (c *chaos) strike(b *blow) {
	switch b.target {
	case "worker":
		c.workers[b.worker].kill()
		time.Sleep(b.down)
		c.workers[b.worker].start()
	case "freeze":
		process := c.workers[b.worker].cmd.Process
		_ = process.Signal(syscall.SIGSTOP)
		time.Sleep(b.down)
		_ = process.Signal(syscall.SIGCONT)
	case "clickhouse":
		c.clickhouse.Kill()
		time.Sleep(b.down)
		c.clickhouse.Restart()
	case "broker":
		node := b.worker % c.broker.Nodes()
		c.broker.Kill(node)
		time.Sleep(b.down)
		c.broker.Revive(node)
	}
}

// settle waits until ClickHouse counts what was sent, or counts nothing new for a minute, and says what is wrong then,
// summed over series and panes.
func (c *chaos) settle(o *oracle) (lost, doubled uint64) {
	c.t.Helper()
	before, since := uint64(0), time.Now()
	for {
		got := uint64(0)
		lost, doubled, got, _ = c.wrong(o)
		switch {
		case lost+doubled == 0, doubled > 0 && lost == 0:
			return lost, doubled
		case got != before:
			before, since = got, time.Now()
		case time.Since(since) > time.Minute:
			return lost, doubled
		}
		time.Sleep(time.Second)
	}
}

// wrong compares the counts of all series and panes, and says what each lacks.
func (c *chaos) wrong(o *oracle) (lost, doubled, stored uint64, missing map[seriesKey]map[int64]uint64) {
	c.t.Helper()
	want := map[seriesKey]map[int64]uint64{}
	for key, panes := range o.cells {
		want[key] = map[int64]uint64{}
		for start, cell := range panes {
			want[key][start] = cell.count
		}
	}
	for _, tenant := range testTenants {
		status, answer := c.trySQL(tenant, `SELECT metric, labels['service'], labels['route'], labels['instance'], toUnixTimestamp(ts), count
			FROM api.metrics_10s WHERE metric LIKE 'e2e_%' FORMAT TSV`)
		if status != 200 || answer == "" {
			continue
		}
		for line := range strings.Lines(answer) {
			f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
			key, got := seriesKey{tenant, f[0], f[1], f[2], f[3]}, uint64(integer(c.t, f[5]))
			panes := want[key]
			stored += got
			start := integer(c.t, f[4])
			counted := min(got, panes[start])
			doubled += got - counted
			if counted > 0 {
				panes[start] -= counted
			}
		}
	}
	for _, panes := range want {
		for _, count := range panes {
			lost += count
		}
	}
	return lost, doubled, stored, want
}

// tell shows what workers said of offsets that are not where they have to be: it is behind whatever was lost.
func (c *chaos) tell() {
	c.t.Helper()
	for i, worker := range c.workers {
		for line := range strings.Lines(worker.out.String()) {
			if strings.Contains(line, "records were not read") || strings.Contains(line, "whose epoch is not there") ||
				strings.Contains(line, "passed records over") || strings.Contains(line, "came again") {
				c.t.Logf("worker %d: %s", i, line)
			}
		}
	}
	list := exec.CommandContext(c.t.Context(), testkit.BuildBinary(c.t, "./cmd/vigie"), "dlq", "list", "-config", c.config)
	list.Env = append(cleanEnvironment(), c.env...)
	if output, err := list.CombinedOutput(); err != nil || !strings.Contains(string(output), "no dead letters match") {
		c.t.Errorf("vigie dlq list: got %s (%v), want none", last(string(output), 4000), err)
	}
}

// auditPatience is how long differences have to go away: workers look for a block that a kill of ClickHouse took from one
// table once the pane that was open then is over, and put it back.
const auditPatience = 3 * time.Minute

// verify runs `vigie verify` on every table and says whether it finds no difference, in the end.
func (c *chaos) verify() bool {
	c.t.Helper()
	for began := time.Now(); ; time.Sleep(5 * time.Second) {
		if c.verifyOnce() {
			return true
		}
		if time.Since(began) > auditPatience {
			return false
		}
	}
}

func (c *chaos) verifyOnce() bool {
	c.t.Helper()
	cmd := exec.CommandContext(c.t.Context(), testkit.BuildBinary(c.t, "./cmd/vigie"), "verify", "-from", c.topic("metrics"), "-table", "all", "-config", c.config)
	cmd.Env = append(cleanEnvironment(), c.env...)
	output, err := cmd.CombinedOutput()
	c.t.Logf("vigie verify:\n%s", output)
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		c.t.Errorf("vigie verify: %v", err)
	}
	if compared := regexp.MustCompile(`(?m)^windows: [1-9]\d* rows compared, 0 not comparable`); !compared.Match(output) {
		c.t.Error("vigie verify: want windows compared, and all comparable")
	}
	return err == nil
}

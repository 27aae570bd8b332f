package compare

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/testkit"
	"github.com/vigie-io/vigie/internal/units"
)

// vigie runs the stream process as it is built and shipped, with one worker, exactly once into Kafka and ClickHouse,
// until ClickHouse counts every event of the log.
func (b *bench) vigie(t *testing.T, r *Run) {
	t.Helper()
	password := rand.Text()
	users, err := clickhouse.UsersXML(clickhouse.Access{
		ServicePassword: units.Secret(password), SQLPassword: units.Secret(rand.Text()), Limits: clickhouse.DefaultSQLLimits(),
	})
	if err != nil {
		t.Fatal(err)
	}
	server := testkit.ClickHouse(t, users)
	workers := "1"
	if r.Peer == VigieTwo {
		workers = "2"
	}
	series := "10000000"
	if b.workload(t).Hostile == Beyond {
		series = "100"
	}
	unique := fmt.Sprintf("%s.%d", b.topic, time.Now().UnixNano())
	admin := testkit.FreeAddr(t)
	env := []string{
		"VIGIE_KAFKA_BROKERS=" + b.broker.Addr, "VIGIE_KAFKA_GROUP=" + unique,
		"VIGIE_KAFKA_TRANSACTIONAL_ID_PREFIX=" + unique, "VIGIE_KAFKA_INSTANCE=one",
		"VIGIE_CLICKHOUSE_ADDRS=" + server.HTTPAddr, "VIGIE_CLICKHOUSE_PASSWORD=" + password, "VIGIE_STREAM_LISTEN=" + admin,
		// Who waits for the last rows to be merged would count what an idle process takes: three times as often is dearer.
		"VIGIE_STREAM_COARSE_INTERVAL=10s",
		"VIGIE_STREAM_WORKERS=" + workers, "VIGIE_TENANTS_DEFAULTS_ACTIVE_SERIES=" + series,
		"VIGIE_TENANTS_DEFAULTS_SERIES_BYTES=16GiB", "VIGIE_KAFKA_TOPICS_METRICS_NAME=" + b.topic,
	}
	for _, topic := range []string{"spans", "logs", "state_metrics", "state_spans", "state_logs", "results", "coarse", "state_coarse",
		"dlq", "dlq_replayed", "parked"} {
		env = append(env, "VIGIE_KAFKA_TOPICS_"+strings.ToUpper(topic)+"_NAME="+unique+"."+topic)
		defer b.drop(unique + "." + topic)
	}
	env = append(environment(), env...)
	migrate := exec.CommandContext(t.Context(), testkit.BuildBinary(t, "./cmd/vigie"), "migrate")
	migrate.Env = env
	if output, err := migrate.CombinedOutput(); err != nil {
		t.Fatalf("migrate: %v\n%s", err, output)
	}
	ends, err := b.admin.ListEndOffsets(t.Context(), b.topic)
	if err != nil {
		t.Fatal(err)
	}
	database := &stored{address: "http://vigie:" + password + "@" + server.HTTPAddr, pid: server.Pid()}
	database.begin(t)
	began := time.Now()
	p := start(t, testkit.BuildBinary(t, "./cmd/stream"), env)
	deadline := began.Add(6 * time.Minute) // a million series take ClickHouse minutes
	b.profile(t, admin)
	if r.Peer == VigieKilled {
		p, r.Recovery = b.killed(t, p, unique, env)
	}
	want := b.log.Events - b.log.Malformed
	for !b.committed(t, unique, ends) {
		if time.Now().After(deadline) {
			t.Fatalf("the log was not committed in time\n%s", p.output.String())
		}
		time.Sleep(50 * time.Millisecond)
	}
	want -= int(scraped(t, admin, "vigie_pipeline_dropped_events_total")) // once: what a scrape allocates is the process'
	holds := func(tier string, look time.Duration) {
		for got := 0; got != want; time.Sleep(look) {
			got = atoi(t, query(t, database.address, "SELECT sum(count) FROM vigie.rollups_"+tier))
			if time.Now().After(deadline) || got > want {
				t.Fatalf("ClickHouse counts %d events in the tier of %s, want %d\n%s", got, tier, want, p.output.String())
			}
		}
	}
	holds("10s", 50*time.Millisecond)
	wall := time.Since(began)
	holds("1m", time.Second) // what it takes to merge for the wider tiers is a part of it all
	r.Wall, r.CPU, r.Resident = wall.Seconds(), cpuOf(t, p.pid()), residentOf(t, p.pid())
	r.Events = b.log.Events
	r.Allocs = scraped(t, admin, "go_memstats_mallocs_total") / float64(r.Events)
	r.Results = int(scraped(t, admin, `vigie_pipeline_rows_total{table="ingest_panes"}`) +
		scraped(t, admin, `vigie_pipeline_rows_total{table="ingest_rollups"}`))
	r.Heap = scraped(t, admin, "go_memstats_next_gc_bytes") / 2 // GOGC is 100
	profileAllocations(t, admin)
	database.end(t, r)
}

// killed kills the process when it has committed something, starts another, and says how long it took until more was.
func (b *bench) killed(t *testing.T, p *process, group string, env []string) (*process, float64) {
	t.Helper()
	at, deadline := int64(0), time.Now().Add(time.Minute)
	for ; at == 0; at = b.offset(t, group) {
		if time.Now().After(deadline) {
			t.Fatal("nothing was committed within a minute")
		}
		time.Sleep(10 * time.Millisecond)
	}
	if at >= int64(b.log.Records) {
		t.Fatal("all was committed before the kill: want a longer log")
	}
	killed := time.Now()
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = p.cmd.Wait()
	at = b.offset(t, group)
	p = start(t, testkit.BuildBinary(t, "./cmd/stream"), env)
	for deadline = time.Now().Add(time.Minute); b.offset(t, group) == at; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("nothing was committed within a minute of the kill\n%s", p.output.String())
		}
	}
	return p, time.Since(killed).Seconds()
}

// offset is how many records of the log a group has committed.
func (b *bench) offset(t *testing.T, group string) (sum int64) {
	t.Helper()
	offsets, err := b.admin.FetchOffsets(t.Context(), group)
	if err != nil {
		return 0 // the group is about to come into being
	}
	offsets.Each(func(o kadm.OffsetResponse) {
		if o.Topic == b.topic && o.At > 0 {
			sum += o.At
		}
	})
	return sum
}

// profile saves a profile of the process at work, when one is asked for.
func (b *bench) profile(t *testing.T, admin string) {
	t.Helper()
	path := os.Getenv(envProfile)
	if path == "" {
		return
	}
	testkit.Eventually(t, time.Minute, func() error {
		response, err := http.Get("http://" + admin + "/metrics")
		if err != nil {
			return err
		}
		response.Body.Close()
		if scraped(t, admin, "vigie_pipeline_events_total") == 0 {
			return errors.New("no events yet")
		}
		return nil
	})
	saveProfile(t, "http://"+admin+"/debug/pprof/profile?seconds="+strconv.Itoa(profileSeconds), path)
}

// profileAllocations saves a profile of what the process has allocated, when one is asked for. It holds what was there at the
// last collection, so one is made.
func profileAllocations(t *testing.T, admin string) {
	t.Helper()
	if path := os.Getenv(envProfile); path != "" {
		saveProfile(t, "http://"+admin+"/debug/pprof/allocs?gc=1", path+".allocs")
	}
}

func saveProfile(t *testing.T, url, path string) {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	profile, err := io.ReadAll(response.Body)
	if err == nil {
		err = os.WriteFile(path, profile, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// profileSeconds is shorter than any log takes.
const profileSeconds = 15

// environment is that of this test but for Vigie's configuration.
func environment() (env []string) {
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, "VIGIE_") || strings.HasPrefix(entry, "VIGIE_CACHE_DIR=") ||
			strings.HasPrefix(entry, "VIGIE_CLICKHOUSE_LIB=") {
			env = append(env, entry)
		}
	}
	return env
}

func atoi(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// query asks ClickHouse.
func query(t *testing.T, url, statement string) string {
	t.Helper()
	response, err := http.Post(url+"/", "text/plain", strings.NewReader(statement))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %v %s", statement, err, text)
	}
	return strings.TrimSpace(string(text))
}

// process is a program that is measured.
type process struct {
	cmd    *exec.Cmd
	output bytes.Buffer
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// start runs a program until the test ends.
func start(t *testing.T, path string, env []string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(path)}
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = env, &p.output, &p.output
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.cmd.Process.Signal(syscall.SIGINT)
		_ = p.cmd.Wait()
	})
	return p
}

// ticks are the kernel's, of processor time in /proc, on every Linux that Go runs on.
const ticks = 100

// cpuOf is the processor time of a process so far, in seconds.
func cpuOf(t *testing.T, pid int) float64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	// The name, in parentheses, may hold anything.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	user, err := strconv.Atoi(fields[11])
	if err != nil {
		t.Fatal(err)
	}
	system, err := strconv.Atoi(fields[12])
	if err != nil {
		t.Fatal(err)
	}
	return float64(user+system) / ticks
}

// residentOf is the most memory that a process had, in bytes.
func residentOf(t *testing.T, pid int) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatal("no VmHWM in /proc/…/status")
	return 0
}

// scraped is the sum of the samples of /metrics that begin so.
func scraped(t *testing.T, addr, prefix string) (sum float64) {
	t.Helper()
	response, err := http.Get("http://" + addr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, prefix); ok {
			fields := strings.Fields(rest)
			v, err := strconv.ParseFloat(fields[len(fields)-1], 64)
			if err != nil {
				t.Fatal(err)
			}
			sum += v
		}
	}
	return sum
}

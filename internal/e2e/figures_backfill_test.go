package e2e

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/testkit"
)

const (
	backfillRows = 500_000
	backfillTime = 25 * time.Second
)

// TestFiguresBackfill measures how old the newest event of each partition in ClickHouse gets while `vigie backfill`
// loads old events into the same ClickHouse on the same machine, as fast as it does by default, and before and after
// that.
func TestFiguresBackfill(t *testing.T) {
	figures(t)
	in := install(t, testkit.ApacheKafka(t), []string{"query", "stream"})
	file := oldEvents(t)
	finish := in.underLoad(number(t, envPace, 20_000))
	time.Sleep(5 * time.Second)

	fresh := newSamples()
	enough := watch(func(ctx context.Context) { in.watchFreshness(ctx, fresh) })
	time.Sleep(15 * time.Second)
	t.Logf("freshness before: %s", fresh)
	fresh.reset()
	began, rows, cpu := time.Now(), 0, time.Duration(0)
	for job := 0; time.Since(began) < backfillTime; job++ {
		cmd := exec.CommandContext(t.Context(), testkit.BuildBinary(t, "./cmd/vigie"), "backfill", "-signal", "metrics", "-tenant", "zeta",
			"-from", file, "-job", "beside-"+strconv.Itoa(job))
		cmd.Dir, cmd.Env = t.TempDir(), append(cleanEnvironment(), in.env...)
		if output, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("vigie backfill: %v\n%s", err, output)
		}
		rows += backfillRows
		cpu += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}
	took := time.Since(began).Seconds()
	t.Logf("freshness beside a backfill of %.0f rows/s (%.2f processors): %s", float64(rows)/took, cpu.Seconds()/took, fresh)
	fresh.reset()
	time.Sleep(15 * time.Second)
	t.Logf("freshness after: %s", fresh)
	enough()
	finish()
	if got := in.sql("zeta", "SELECT sum(count) FROM api.metrics_1h WHERE metric = 'old_seconds'"); got != strconv.Itoa(rows) {
		t.Errorf("got %s old events, want %d", got, rows)
	}
}

// oldEvents writes a file of events of ten days ago, of 5,000 series, in the order of time.
func oldEvents(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "old.ndjson")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	out, start := bufio.NewWriterSize(file, 1<<20), time.Now().Add(-10*24*time.Hour).UnixMilli()
	for i := range backfillRows {
		n := i * 7919 % 5000
		fmt.Fprintf(out, `{"time":%d,"name":"old_seconds","value":%v,"labels":{"instance":"i-%d","route":"/r/%d","service":"svc-%d"}}`+"\n",
			start+int64(i/3), float64(1+i*31%4096)/1024, n, n%40, n%10)
	}
	if err := out.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

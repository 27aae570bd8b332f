package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/testkit"
)

// devStack is `vigie dev` on free ports.
type devStack struct {
	*program
	dir, query, ingest, stream, kafka, clickhouse string
}

// devEnvironment moves `vigie dev` away from the default ports, into a directory with a space in its name.
func devEnvironment(t testing.TB, dir string) (*devStack, []string) {
	d := &devStack{
		dir: dir, query: testkit.FreeAddr(t), ingest: testkit.FreeAddr(t), stream: testkit.FreeAddr(t),
		kafka: testkit.FreeAddr(t), clickhouse: testkit.FreeAddr(t),
	}
	return d, []string{
		"VIGIE_DATA_DIR=" + dir, "VIGIE_QUERY_LISTEN=" + d.query, "VIGIE_INGEST_LISTEN=" + d.ingest, "VIGIE_STREAM_LISTEN=" + d.stream,
		"VIGIE_DEV_KAFKA_LISTEN=" + d.kafka, "VIGIE_DEV_CLICKHOUSE_HTTP=" + d.clickhouse, "VIGIE_DEV_CLICKHOUSE_NATIVE=" + testkit.FreeAddr(t),
	}
}

func startDev(t testing.TB, dir string) *devStack {
	t.Helper()
	if _, err := exec.LookPath("npm"); err != nil {
		testkit.Missing(t, "ClickHouse", "npm is not on PATH")
	}
	d, env := devEnvironment(t, dir)
	d.program = start(t, testkit.BuildBinary(t, "./cmd/vigie"), []string{"dev"}, env)
	testkit.Eventually(t, 3*time.Minute, func() error {
		select {
		case <-d.done:
			t.Fatalf("vigie dev ended: %s", last(d.out.String(), 4000))
		default:
		}
		if !strings.Contains(d.out.String(), "Vigie is ready.") {
			return errors.New("not ready yet")
		}
		return nil
	})
	return d
}

// TestReadmeCommands runs the commands of README.md against `vigie dev`, looks at the dashboards of deploy/grafana,
// then ends it as Ctrl-C does and starts it again on the same data.
func TestReadmeCommands(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, ok := strings.Cut(string(readme), "TestReadmeCommands runs this block -->\n```sh\n")
	block, _, ok2 := strings.Cut(block, "```")
	if !ok || !ok2 {
		t.Fatal("README.md has no tested block")
	}
	dir := filepath.Join(t.TempDir(), "a folder with spaces")
	d := startDev(t, dir)
	commands := strings.NewReplacer("127.0.0.1:7070", d.query, "127.0.0.1:7071", d.ingest, ".vigie/keys.env", "'"+dir+"/keys.env'").Replace(block)
	for i, command := range strings.Split(strings.TrimSpace(commands), "\n\n") {
		if i == 0 {
			continue // the keys, which every command below reads anew
		}
		testkit.Eventually(t, 2*time.Minute, func() error { // rates need a complete window
			shell := exec.CommandContext(t.Context(), "sh", "-euc", ". '"+dir+"/keys.env'\n"+command)
			output, err := shell.CombinedOutput()
			if err != nil || strings.Contains(string(output), `"result":[]`) || strings.Contains(string(output), "Exception") || len(output) < 20 {
				return fmt.Errorf("%s\n→ %v %s", command, err, output)
			}
			t.Logf("%s\n→ %s", command, last(string(output), 600))
			return nil
		})
	}
	if info, err := os.Stat(filepath.Join(dir, "keys.env")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("keys.env: got %v (%v), want mode 0600", info.Mode(), err)
	}

	// Operators' commands know the passwords that it made.
	for _, command := range [][]string{{"verify", "-from", "vigie.metrics.v1"}, {"audit", "results"}, {"migrate", "-dry-run"}} {
		cmd := exec.CommandContext(t.Context(), d.path, command...)
		cmd.Env = append(cleanEnvironment(), append(d.env, "VIGIE_KAFKA_BROKERS="+d.kafka, "VIGIE_CLICKHOUSE_ADDRS="+d.clickhouse)...)
		if output, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("vigie %s: %v\n%s", strings.Join(command, " "), err, output)
		}
	}
	d.dashboards(t)
	before := d.count(t, "acme")
	began := time.Now()
	if code := d.interrupt(); code != 0 {
		t.Errorf("Ctrl-C: got exit code %d, want 0\n%s", code, last(d.out.String(), 3000))
	}
	t.Logf("Ctrl-C took %s", time.Since(began).Round(10*time.Millisecond))
	for _, addr := range []string{d.query, d.ingest, d.stream, d.kafka, d.clickhouse} {
		if connection, err := net.Dial("tcp", addr); err == nil {
			_ = connection.Close()
			t.Errorf("%s still answers after the end", addr)
		}
	}
	again := startDev(t, dir)
	if after := again.count(t, "acme"); after < before {
		t.Errorf("after a restart: got %v events of tenant acme, want at least the %v from before", after, before)
	}
	again.kill()
	testkit.Eventually(t, 30*time.Second, func() error { // the engine notices its parent's death
		connection, err := net.Dial("tcp", again.clickhouse)
		if err != nil {
			return nil
		}
		_ = connection.Close()
		return errors.New("ClickHouse outlives its killed parent")
	})
	testkit.Eventually(t, 30*time.Second, func() error { return os.RemoveAll(dir) }) // it may still write as it ends
}

// count asks over SQL how many checkout_seconds events a tenant has.
func (d *devStack) count(t testing.TB, tenant string) float64 {
	t.Helper()
	keys, err := os.ReadFile(filepath.Join(d.dir, "keys.env"))
	if err != nil {
		t.Fatal(err)
	}
	_, key, _ := strings.Cut(string(keys), "VIGIE_KEY_"+strings.ToUpper(tenant)+"=")
	key, _, _ = strings.Cut(key, "\n")
	status, answer, err := fetch("POST", "http://"+d.query+"/sql", key, nil,
		strings.NewReader("SELECT sum(count) FROM api.metrics_10s WHERE metric = 'checkout_seconds'"))
	if err != nil || status != 200 {
		t.Fatalf("count: %d %s %v", status, answer, err)
	}
	return float(t, strings.TrimSpace(answer))
}

// TestDevRefusals shows that what hinders a start is said in one sentence with the way out, and leaves nothing behind.
func TestDevRefusals(t *testing.T) {
	binary := testkit.BuildBinary(t, "./cmd/vigie")
	refuse := func(name string, env []string, want ...string) {
		t.Run(name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), binary, "dev")
			cmd.Env = env
			output, err := cmd.CombinedOutput()
			if err == nil || cmd.ProcessState.ExitCode() == 0 {
				t.Fatalf("got a clean end, want a refusal\n%s", output)
			}
			text := strings.TrimSpace(string(output))
			for _, w := range want {
				if !strings.Contains(text, w) {
					t.Errorf("got %q, want %q in it", text, w)
				}
			}
			if lines := strings.Count(text, "\n") + 1; lines > 1 {
				t.Errorf("got %d lines, want one sentence: %s", lines, text)
			}
		})
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, env := devEnvironment(t, t.TempDir())
	base := append(cleanEnvironment(), env...)
	for _, setting := range []string{"QUERY_LISTEN", "INGEST_LISTEN", "STREAM_LISTEN", "DEV_KAFKA_LISTEN", "DEV_CLICKHOUSE_HTTP", "DEV_CLICKHOUSE_NATIVE"} {
		key := strings.Replace(strings.ToLower(setting), "_", ".", 1)
		refuse("port in use: "+key, append(base[:len(base):len(base)], "VIGIE_"+setting+"="+taken.Addr().String()), "port is in use", key)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refuse("data directory that cannot be made", append(base[:len(base):len(base)], "VIGIE_DATA_DIR="+filepath.Join(file, "below")), "data directory", "VIGIE_DATA_DIR")
	refuse("no npm", append(base[:len(base):len(base)], "PATH=/nonexistent", "VIGIE_CACHE_DIR="+t.TempDir()), "npm is not installed")
	refuse("unknown key", append(base[:len(base):len(base)], "VIGIE_QUERY_LISTN=x"), "VIGIE_QUERY_LISTEN")
	refuse("wrong value", append(base[:len(base):len(base)], "VIGIE_STREAM_MAX_PAST=yesterday"), "VIGIE_STREAM_MAX_PAST", "duration")
}

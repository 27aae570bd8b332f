package grafana

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/devstack"
	"github.com/vigie-io/vigie/internal/testkit"
)

// clientVersion is that of @grafana/prometheus, @grafana/runtime and @grafana/data in client/package.json.
const clientVersion = "13.2.3"

const (
	clientSpace = 300 << 20
	clientTime  = time.Minute
	clientMark  = "complete" // in the cached folder, once npm has ended well
)

//go:embed client
var client embed.FS

// Look is what Grafana's client is asked to do with a service.
type Look struct {
	URL string `json:"url"`
	Key string `json:"key"`
	// ScrapeSeconds is the data source's scrape interval.
	ScrapeSeconds int `json:"scrapeSeconds"`
	// From and To are the dashboard's range, Unix milliseconds.
	From int64 `json:"from"`
	To   int64 `json:"to"`
	// Counter is a metric, Label one of its labels.
	Counter string `json:"counter"`
	Label   string `json:"label"`
	// Find are the queries of dashboard variables, Hinted those for which the query editor gives hints.
	Find   []string `json:"find"`
	Hinted []string `json:"hinted"`
	// The queries of panels: a range and an instant, a gauge with exemplars, a native and a classic heatmap, a table.
	Panel   string `json:"panel"`
	Gauge   string `json:"gauge"`
	Heatmap string `json:"heatmap"`
	Classic string `json:"classic"`
	Table   string `json:"table"`
}

// Seen is what the client made of the answers.
type Seen struct {
	Health                                struct{ Status, Message string }
	Exemplars                             bool
	Rules                                 map[string]json.RawMessage
	Metrics, Histograms, LabelKeys        []string
	Metadata                              map[string]struct{ Type, Help, Unit string }
	KeysOf, ValuesOf, Limited             []string
	TagKeys, TagValues                    []string
	Find, Hints                           map[string][]string
	Panel, Gauge, Heatmap, Classic, Table Frames
	Wrong, First, Again                   Frames
	Get                                   struct{ Keys, Calls []string }
	Series, Search                        struct{ Metrics, Calls []string }
	Calls                                 []string
}

// Frames are the data of one panel.
type Frames struct {
	Error  string
	Frames []struct {
		RefID, Type, Show string
		Fields            []struct {
			Name   string
			Labels map[string]string
			Values []any
		}
	}
}

// Client runs Grafana's own Prometheus client, the packages that npm has, in Node against a service. Of Grafana's user
// interface there is nothing, and its server's part is played by client/stage.cjs: it passes calls on, and turns
// panels' queries into query and query_range as Grafana's server does. The packages (118 MB) are fetched once.
func Client(t testing.TB, look Look) *Seen {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		testkit.Missing(t, "Node.js", "node is not on PATH; install it with npm (Debian: apt-get install nodejs npm)")
	}
	packages, err := ensureClient(t)
	if err != nil {
		testkit.Missing(t, "Grafana's client", err.Error())
	}
	dir := t.TempDir()
	if err := copyClient(dir); err != nil {
		t.Fatal(err)
	}
	input, err := json.Marshal(look)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), clientTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, node, filepath.Join(dir, "client.cjs"))
	cmd.Env = append(os.Environ(), "NODE_PATH="+filepath.Join(packages, "node_modules"), "NODE_ENV=test")
	var told bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(input), &told
	output, err := cmd.Output()
	if err != nil {
		t.Fatalf("run Grafana's client: %v\n%s", err, told.Bytes())
	}
	seen := &Seen{}
	if err := json.Unmarshal(output, seen); err != nil {
		t.Fatalf("read what Grafana's client says: %v in %s", err, output)
	}
	if t.Failed() || testing.Verbose() {
		t.Logf("Grafana's client said: %s", told.Bytes())
	}
	return seen
}

func ensureClient(t testing.TB) (string, error) {
	return devstack.EnsureCached(t.Context(), "", devstack.Part{
		Name:  "grafana-client-" + clientVersion,
		Space: clientSpace,
		Valid: func(dir string) bool {
			_, err := os.Stat(filepath.Join(dir, clientMark))
			return err == nil
		},
		Fetch: func(ctx context.Context, work string) (string, error) {
			t.Logf("fetching Grafana's Prometheus client %s once (118 MB)", clientVersion)
			if err := errors.Join(copyClient(work), devstack.InstallNPM(ctx, work)); err != nil {
				return "", err
			}
			return work, os.WriteFile(filepath.Join(work, clientMark), nil, 0o644)
		},
	}, func(line string) { t.Log(line) })
}

func copyClient(dir string) error {
	files, err := fs.Sub(client, "client")
	if err != nil {
		panic("BUG: embedded client: " + err.Error())
	}
	if err := os.CopyFS(dir, files); err != nil {
		return fmt.Errorf("write Grafana's client: %w", err)
	}
	return nil
}

package clickhouse_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/vigie-io/vigie/internal/clickhouse"
)

// The server has sent its status before it knows how an answer ends.
func TestEndOfAnswer(t *testing.T) {
	metric, unit, help := new(proto.ColStr), new(proto.ColStr), new(proto.ColStr)
	for _, column := range []*proto.ColStr{metric, unit, help} {
		column.Append("Code: not one")
	}
	kind, native := proto.ColUInt8{1}, proto.ColUInt8{0}
	input := proto.Input{{Name: "metric", Data: metric}, {Name: "kind", Data: &kind}, {Name: "native", Data: &native},
		{Name: "unit", Data: unit}, {Name: "help", Data: help}, {Name: "shape", Data: help}, {Name: "measures", Data: &native}}
	var buffer proto.Buffer
	if err := (proto.Block{Columns: len(input), Rows: 1}).EncodeRawBlock(&buffer, 0, input); err != nil {
		t.Fatal(err)
	}
	block := string(buffer.Buf)

	for name, test := range map[string]struct {
		body  string
		abort bool
		metas int
		code  int // 0: any error
	}{
		"nothing":       {body: ""},
		"two blocks":    {body: block + block, metas: 2},
		"exception":     {body: block + "\r\n__exception__\r\nabc\r\nCode: 159. DB::Exception: Timeout exceeded. (TIMEOUT_EXCEEDED)\n", code: 159},
		"bare":          {body: block + "Code: 241. DB::Exception: Memory limit exceeded", abort: true, code: 241},
		"cut at a seam": {body: block, abort: true, metas: -1},
		"cut inside":    {body: block + block[:20], metas: -1},
		"cut hard":      {body: block + block[:20], abort: true, metas: -1},
		"other columns": {body: strings.Replace(block, "metric", "cirtem", 1), metas: -1},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				_, _ = w.Write([]byte(test.body))
				w.(http.Flusher).Flush()
				if test.abort {
					panic(http.ErrAbortHandler)
				}
			}))
			defer server.Close()
			cfg := clickhouse.DefaultConfig()
			cfg.Addrs = []string{strings.TrimPrefix(server.URL, "http://")}
			client, err := clickhouse.NewClient(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			got, err := clickhouse.NewStore(client).Metas(t.Context(), "acme", 0)
			var exception *clickhouse.Error
			switch {
			case test.code != 0:
				if !errors.As(err, &exception) || exception.Code != test.code {
					t.Errorf("got %v, want exception %d", err, test.code)
				}
			case test.metas < 0:
				if err == nil {
					t.Errorf("got %d metrics and no error, want an error", len(got))
				}
			case err != nil || len(got) != test.metas:
				t.Errorf("got %d metrics, %v, want %d", len(got), err, test.metas)
			}
		})
	}
}

func TestNextAddress(t *testing.T) {
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { asked++ }))
	defer server.Close()
	cfg := clickhouse.DefaultConfig()
	cfg.Addrs, cfg.Cluster = []string{"127.0.0.1:1", strings.TrimPrefix(server.URL, "http://")}, "c"
	client, err := clickhouse.NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for range 3 {
		if err := client.Insert(t.Context(), "ingest_series", "token", 1, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if asked != 3 {
		t.Errorf("got %d requests at the second address, want 3", asked)
	}
}

func TestPasswordsDoNotShowInErrors(t *testing.T) {
	cfg := clickhouse.DefaultConfig()
	cfg.Addrs, cfg.Password = []string{"127.0.0.1:1"}, "hunter2hunter2"
	client, err := clickhouse.NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Ready(t.Context()); err == nil || strings.Contains(err.Error(), "hunter2") ||
		strings.Contains(err.Error(), "SELECT") {
		t.Errorf("got %v, want an error without the password and the statement", err)
	}
}

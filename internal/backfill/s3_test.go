package backfill_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/vigie-io/vigie/internal/backfill"
	"github.com/vigie-io/vigie/internal/testkit"
	"github.com/vigie-io/vigie/internal/units"
	"github.com/vigie-io/vigie/pkg/events"
)

// bucket is a bucket of a server of its own, and how a job finds it.
type bucket struct {
	*minio.Client
	cfg backfill.S3Config
}

func newBucket(t *testing.T) *bucket {
	t.Helper()
	server := testkit.S3(t)
	client, err := minio.New(server.Addr, &minio.Options{Creds: credentials.NewStaticV4(server.AccessKey, server.SecretKey, "")})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.MakeBucket(t.Context(), "old", minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	return &bucket{client, backfill.S3Config{
		Endpoint: "http://" + server.Addr, AccessKey: server.AccessKey,
		SecretKey: units.Secret(server.SecretKey), PathStyle: true,
	}}
}

func (b *bucket) put(t testing.TB, key string, text []byte) {
	t.Helper()
	if _, err := b.PutObject(t.Context(), "old", key, bytes.NewReader(text), int64(len(text)),
		minio.PutObjectOptions{}); err != nil {
		t.Fatal(err)
	}
}

// Objects give what the same files give, also when answers break off; and a file is the same file wherever it is.
func TestS3IsLocal(t *testing.T) {
	all := someMetrics(30_000)
	b := newBucket(t)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.ndjson"), ndjson(all[:15_000]))
	write(t, filepath.Join(dir, "b.csv.gz"), asCSV(t, "tenant,time,name,kind,value,labels.n,labels.service", all[15_000:20_000], func(m *events.Metric) []string {
		return []string{m.Tenant, fmt.Sprint(m.Time), m.Name, m.Kind.String(), fmt.Sprint(m.Value),
			m.Labels.Get("n"), m.Labels.Get("service")}
	}))
	writeParquet(t, filepath.Join(dir, "c.parquet"), all[20_000:], toMapRow)
	for _, name := range []string{"a.ndjson", "b.csv.gz", "c.parquet"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		b.put(t, "in/2026/"+name, text)
	}
	b.put(t, "in/2026/deeper/d.ndjson", []byte("not matched"))
	b.put(t, "in/other.txt", []byte("not matched"))

	d := newDatabase(t)
	local := config(filepath.Join(dir, "*"))
	if _, _, err := d.run(t, local, nil); err != nil {
		t.Fatal(err)
	}
	want := d.contents(t)

	remote := config("s3://old/in/20*/*")
	remote.S3 = b.cfg
	sum, _, err := d.run(t, remote, nil)
	if err != nil || sum.Files != 3 || sum.Loaded != 3 {
		t.Fatalf("the same job: got %+v, %v, want three files that are already loaded", sum, err)
	}
	d.empty(t)
	remote.Job = "remote"
	var broken atomic.Int32
	remote.S3.Endpoint = breaking(t, b.cfg.Endpoint, &broken)
	sum, out, err := d.run(t, remote, nil)
	if err != nil || sum.Files != 3 || sum.Events != 30_000 {
		t.Fatalf("got %+v, %v, %v", sum, err, out.notes)
	}
	same(t, d.contents(t), want)
	if broken.Load() < 3 {
		t.Errorf("got %d broken answers: the test proves nothing", broken.Load())
	}
}

// breaking is a proxy that breaks every third answer with a body off in its middle.
func breaking(t *testing.T, endpoint string, broken *atomic.Int32) string {
	t.Helper()
	target, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	var n atomic.Int32
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host }, // the signature holds the host
		ModifyResponse: func(r *http.Response) error {
			if r.Request.Method == http.MethodGet && r.StatusCode == http.StatusPartialContent && n.Add(1)%3 == 2 {
				broken.Add(1)
				r.Body = struct {
					io.Reader
					io.Closer
				}{io.MultiReader(io.LimitReader(r.Body, r.ContentLength/2), failing{}), r.Body}
			}
			return nil
		},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() { // the proxy's own panic would end the test
			if p := recover(); p != nil && !errors.Is(p.(error), http.ErrAbortHandler) {
				panic(p)
			} else if p != nil {
				panic(http.ErrAbortHandler)
			}
		}()
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// overwriting is a store in front of which an object changes between its hash and its loading.
type overwriting struct {
	backfill.Store
	change func()
}

func (o *overwriting) Entries(ctx context.Context, job, file string) ([]backfill.Entry, error) {
	o.change()
	return o.Store.Entries(ctx, job, file)
}

func TestS3Refuses(t *testing.T) {
	b := newBucket(t)
	text := ndjson(someMetrics(1_000))
	b.put(t, "a.ndjson", text)
	f := func(pattern string, change func(*backfill.Config), before func(), want string) {
		t.Helper()
		cfg := config(pattern)
		cfg.S3 = b.cfg
		change(&cfg)
		_, err := backfill.New(cfg, &overwriting{nowhere{}, before}, nil, &output{}, nil).Run(t.Context())
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret-key") {
			t.Errorf("%s: got %v, want %q and no secret", pattern, err, want)
		}
	}
	none, nothing := func(*backfill.Config) {}, func() {}
	f("s3://old/*.csv", none, nothing, "there are none")
	f("s3://missing/*.csv", none, nothing, "bucket")
	f("s3://old", none, nothing, "want s3://bucket/key")
	f("s3://old/a[.ndjson", none, nothing, "syntax error")
	f("s3://old/*.ndjson", func(c *backfill.Config) { c.S3.SecretKey = "another-secret-key" }, nothing, "signature")
	f("s3://old/*.ndjson", func(c *backfill.Config) { c.S3.AccessKey = "" }, nothing, "access_key")
	f("s3://old/*.ndjson", func(c *backfill.Config) { c.S3.Endpoint = "example.com" }, nothing, "endpoint")
	f("s3://old/*.ndjson", none, func() { b.put(t, "a.ndjson", append([]byte("\n"), text[1:]...)) }, "changed while it was read")
}

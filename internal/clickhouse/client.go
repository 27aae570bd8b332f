package clickhouse

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/vigie-io/vigie/internal/units"
)

// Database is where Vigie's tables are. DatabaseAPI is where the views of tenants are.
const (
	Database    = "vigie"
	DatabaseAPI = "api"
)

// Client speaks HTTP to ClickHouse. It is safe for concurrent use and keeps connections open between calls.
type Client struct {
	cfg     Config
	service credentials
	sql     credentials
	http    *http.Client
	scheme  string
	current atomic.Uint32 // index of the address that answered last
	encoder *zstd.Encoder // nil without compression; EncodeAll only, which is safe for concurrent use
}

type credentials struct {
	user     string
	password units.Secret
}

// NewClient checks the configuration and reads its files. It opens no connection.
func NewClient(cfg Config) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	password, sqlPassword, err := cfg.passwords()
	if err != nil {
		return nil, err
	}
	tlsConfig, err := cfg.TLS.load()
	if err != nil {
		return nil, err
	}
	c := &Client{
		cfg: cfg, scheme: "http",
		service: credentials{cfg.User, password},
		sql:     credentials{cfg.SQLUser, sqlPassword},
		http: &http.Client{
			Transport: &http.Transport{
				DialContext:         (&net.Dialer{Timeout: cfg.DialTimeout}).DialContext,
				TLSClientConfig:     tlsConfig,
				TLSHandshakeTimeout: cfg.DialTimeout,
				MaxIdleConnsPerHost: 64,
				// Below the server's keep_alive_timeout (10 s; 3 s of the embedded engine), so that it is not the one
				// to close.
				IdleConnTimeout: 2 * time.Second,
				// Bodies are passed on as they come; compressed ones are decoded where it is asked for.
				DisableCompression: true,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	if cfg.TLS.Enabled {
		c.scheme = "https"
	}
	if cfg.Compression == CompressionZstd {
		c.encoder, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
		if err != nil {
			return nil, fmt.Errorf("start compression: %w", err)
		}
	}
	return c, nil
}

// Close closes idle connections. Calls under way end by their own contexts.
func (c *Client) Close() { c.http.CloseIdleConnections() }

func (t *TLSConfig) load() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read clickhouse.tls.ca_file: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read clickhouse.tls.ca_file %s: want PEM certificates", t.CAFile)
		}
	}
	if t.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("read clickhouse.tls.cert_file and key_file: %w", err)
		}
		cfg.Certificates = []tls.Certificate{cert}
	}
	return cfg, nil
}

// call is one request. Its body can be sent again to another address.
type call struct {
	as       credentials
	method   string
	params   url.Values
	header   http.Header
	body     []byte
	stream   io.Reader     // instead of body; only the first address is asked
	noErrors bool          // hand exceptions to the caller as responses
	limit    time.Duration // longest time on the server; 0 is the configuration's timeout

	lent sync.WaitGroup // readers of body that the transport has not closed
}

// lend returns a reader of body. The transport may still read when a call has ended, until it closes the reader.
func (c *call) lend() io.ReadCloser {
	c.lent.Add(1)
	return &lentBody{Reader: bytes.NewReader(c.body), giveBack: sync.OnceFunc(c.lent.Done)}
}

type lentBody struct {
	*bytes.Reader
	giveBack func()
}

func (b *lentBody) Close() error {
	b.giveBack()
	return nil
}

// do sends the call to the address that answered last, and to the others when it cannot be reached. The caller closes
// the response's body. A non-2xx status is an *Error.
func (c *Client) do(ctx context.Context, call *call) (*http.Response, error) {
	first := c.current.Load()
	var failures []error
	for i := range uint32(len(c.cfg.Addrs)) {
		at := (first + i) % uint32(len(c.cfg.Addrs))
		response, err := c.try(ctx, c.cfg.Addrs[at], call)
		if err == nil {
			c.current.Store(at)
			return response, nil
		}
		var exception *Error
		if errors.As(err, &exception) || ctx.Err() != nil {
			return nil, err
		}
		failures = append(failures, err)
		if call.stream != nil {
			break
		}
	}
	return nil, errors.Join(failures...)
}

func (c *Client) try(ctx context.Context, addr string, call *call) (*http.Response, error) {
	target := url.URL{Scheme: c.scheme, Host: addr, Path: "/", RawQuery: call.params.Encode()}
	request, err := http.NewRequestWithContext(ctx, call.method, target.String(), call.stream)
	if err != nil {
		return nil, fmt.Errorf("ask ClickHouse at %s: %w", addr, err)
	}
	if call.stream == nil && len(call.body) > 0 {
		request.ContentLength = int64(len(call.body))
		request.GetBody = func() (io.ReadCloser, error) { return call.lend(), nil }
		request.Body = call.lend()
	}
	if call.header != nil {
		request.Header = call.header.Clone()
	}
	request.Header.Set("X-ClickHouse-User", call.as.user)
	request.Header.Set("X-ClickHouse-Key", call.as.password.Reveal())
	request.Header.Set("User-Agent", "vigie")
	response, err := c.http.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask ClickHouse at %s: %w", addr, transportCause(err))
	}
	if response.StatusCode/100 != 2 && !call.noErrors {
		defer response.Body.Close()
		return nil, fmt.Errorf("ask ClickHouse at %s: %w", addr, errorOf(response))
	}
	return response, nil
}

// transportCause drops the URL from the error: it holds the whole query.
func transportCause(err error) error {
	var with *url.Error
	if errors.As(err, &with) {
		return with.Err
	}
	return err
}

// settings are those of every call of the service user.
func (c *Client) settings(query string) url.Values {
	return url.Values{
		// Statements name databases themselves; this one always exists.
		"database":           {"system"},
		"query":              {query},
		"max_execution_time": {strconv.Itoa(int(c.cfg.Timeout.Seconds()))},
		// An error after the first bytes would come with status 200.
		"wait_end_of_query": {"1"},
	}
}

// timeout bounds a call on the wire a little later than the server bounds it, so that its own error wins.
func (c *Client) timeout(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, cmp.Or(limit, c.cfg.Timeout)+c.cfg.DialTimeout)
}

// exec runs a statement and drops its answer.
func (c *Client) exec(ctx context.Context, statement string) error {
	return c.execWithin(ctx, statement, c.cfg.Timeout)
}

// execWithin is exec for statements that may take longer than others.
func (c *Client) execWithin(ctx context.Context, statement string, limit time.Duration) error {
	params := c.settings("")
	params.Del("query") // long statements do not fit in a URL
	params.Set("max_execution_time", strconv.Itoa(int(limit.Seconds())))
	_, err := c.fetch(ctx, &call{as: c.service, method: http.MethodPost, params: params, body: []byte(statement), limit: limit})
	return err
}

// rows runs a query and returns its answer in the format TabSeparated, for small answers.
func (c *Client) rows(ctx context.Context, query string) (string, error) {
	body, err := c.fetch(ctx, &call{as: c.service, method: http.MethodPost, params: c.settings(query)})
	return string(body), err
}

// tabbed runs a query that ends in FORMAT TabSeparated, or its raw form, and calls each with the fields of each row of
// the answer, so many as columns says. They are not unescaped.
func (c *Client) tabbed(ctx context.Context, query string, columns int, each func(fields []string) error) error {
	answer, err := c.rows(ctx, query)
	if err != nil {
		return err
	}
	for line := range strings.Lines(answer) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(fields) != columns {
			return fmt.Errorf("row %q: want %d fields, got %d", line, columns, len(fields))
		}
		if err := each(fields); err != nil {
			return fmt.Errorf("row %q: %w", line, err)
		}
	}
	return nil
}

// fetch returns the whole answer. It does not retain the call's body.
func (c *Client) fetch(ctx context.Context, call *call) ([]byte, error) {
	defer call.lent.Wait() // at last: what is under way ends with ctx
	ctx, cancel := c.timeout(ctx, call.limit)
	defer cancel()
	response, err := c.do(ctx, call)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	const most = 64 << 20
	body, err := io.ReadAll(io.LimitReader(response.Body, most))
	if err != nil {
		return nil, fmt.Errorf("read ClickHouse's answer: %w", err)
	}
	return body, nil
}

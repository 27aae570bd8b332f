package clickhouse_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/vigie-io/vigie/internal/clickhouse"
)

func TestConfigValidate(t *testing.T) {
	valid := clickhouse.DefaultConfig()
	if err := valid.Validate(); err != nil {
		t.Fatalf("defaults: %v", err)
	}
	f := func(want string, change func(*clickhouse.Config)) {
		t.Helper()
		cfg := clickhouse.DefaultConfig()
		change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "clickhouse."+want) {
			t.Errorf("%s: got %v, want an error naming it", want, err)
		}
	}
	f("addrs", func(c *clickhouse.Config) { c.Addrs = nil })
	f("addrs", func(c *clickhouse.Config) { c.Addrs = []string{"http://127.0.0.1:8123"} })
	f("addrs", func(c *clickhouse.Config) { c.Addrs = []string{"localhost"} })
	// Two servers that do not know of each other would each take a retried insert.
	f("cluster", func(c *clickhouse.Config) { c.Addrs = []string{"a:1", "b:1"} })
	f("user", func(c *clickhouse.Config) { c.User = "a b" })
	f("sql_user", func(c *clickhouse.Config) { c.SQLUser = "x'; DROP" })
	f("sql_user", func(c *clickhouse.Config) { c.SQLUser = c.User })
	f("password", func(c *clickhouse.Config) { c.Password, c.PasswordFile = "a", "b" })
	f("sql_password", func(c *clickhouse.Config) { c.SQLPassword, c.SQLPasswordFile = "a", "b" })
	f("timeout", func(c *clickhouse.Config) { c.Timeout = 0 })
	f("dial_timeout", func(c *clickhouse.Config) { c.DialTimeout = 0 })
	f("read_memory", func(c *clickhouse.Config) { c.ReadMemory = 1 })
	f("compression", func(c *clickhouse.Config) { c.Compression = "lz77" })
	f("tls.cert_file", func(c *clickhouse.Config) { c.TLS.CertFile = "x" })
	f("sql.max_time", func(c *clickhouse.Config) { c.SQL.MaxTime = 0 })
	f("sql.max_memory_all", func(c *clickhouse.Config) { c.SQL.MaxMemoryAll = 1 })
}

func TestAccessIsSafe(t *testing.T) {
	a := access()
	users, err := clickhouse.UsersXML(a)
	if err != nil {
		t.Fatal(err)
	}
	sql, err := clickhouse.AccessSQL(a, "it's")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{string(users), sql} {
		if strings.Contains(text, a.ServicePassword.Reveal()) || strings.Contains(text, a.SQLPassword.Reveal()) {
			t.Error("got a password in clear, want hashes only")
		}
	}
	if !strings.Contains(sql, `ON CLUSTER 'it\'s'`) {
		t.Errorf("got %s, want the cluster's name quoted", sql)
	}
	for decoder := xml.NewDecoder(bytes.NewReader(users)); ; {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("users.xml: %v", err)
		}
	}
	for _, change := range []func(*clickhouse.Access){
		func(a *clickhouse.Access) { a.SQLPassword = "" },
		func(a *clickhouse.Access) { a.ServicePassword = "short" },
		func(a *clickhouse.Access) { a.SQLPassword = a.ServicePassword },
		func(a *clickhouse.Access) { a.Limits.MaxThreads = 0 },
	} {
		bad := access()
		change(&bad)
		if _, err := clickhouse.UsersXML(bad); err == nil {
			t.Errorf("%+v: got no error", bad)
		}
	}
}

package config

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"
)

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "vigie.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDefaultIsValid(t *testing.T) {
	loaded, err := Load("vigie", nil, nil, io.Discard)
	if err != nil || loaded.Action != Run || !reflect.DeepEqual(loaded.Config, Default()) {
		t.Fatalf("got %+v, %v, want the defaults", loaded, err)
	}
}

// The file overrides the defaults, the environment the file, a flag the environment.
func TestPrecedence(t *testing.T) {
	path := file(t, "kafka: {brokers: [a:1, b:2], group: file}\nstream: {max_past: 1h, epoch: {min: 100ms}}\n")
	f := func(args, environ []string, want func(*Config)) {
		t.Helper()
		loaded, err := Load("vigie", args, environ, io.Discard)
		if err != nil {
			t.Fatalf("%v %v: %v", args, environ, err)
		}
		expected := Default()
		want(&expected)
		if !reflect.DeepEqual(loaded.Config, expected) {
			t.Errorf("%v %v: got %+v, want %+v", args, environ, loaded.Config, expected)
		}
	}
	fromFile := func(c *Config) {
		c.Kafka.Brokers, c.Kafka.Group = []string{"a:1", "b:2"}, "file"
		c.Stream.MaxPast, c.Stream.Epoch.Min = time.Hour, 100*time.Millisecond
	}
	f([]string{"-config", path}, nil, fromFile)
	f(nil, []string{"VIGIE_CONFIG=" + path}, fromFile)
	f([]string{"-config", path}, []string{"VIGIE_KAFKA_GROUP=environment", "HOME=/x"}, func(c *Config) {
		fromFile(c)
		c.Kafka.Group = "environment"
	})
	f([]string{"-kafka.group=flag", "-kafka.brokers=c:3, d:4"}, []string{"VIGIE_KAFKA_GROUP=environment"}, func(c *Config) {
		c.Kafka.Group, c.Kafka.Brokers = "flag", []string{"c:3", "d:4"}
	})
	// The variables of tests, caches and development keys are not configuration.
	f(nil, []string{"VIGIE_CACHE_DIR=/x", "VIGIE_TEST_KAFKA=x", "VIGIE_KEY_ACME=x"}, func(*Config) {})
	// So are those of `vigie sql` and of Grafana's files: they stand in the shell in which the other commands are
	// typed.
	f(nil, []string{"VIGIE_KEY=x", "VIGIE_URL=x", "VIGIE_QUERY_HOST=x", "VIGIE_QUERY_PORT=1", "VIGIE_GRAFANA_DASHBOARDS=x"}, func(*Config) {})
	f(nil, []string{"VIGIE_INGEST_MAX_IN_FLIGHT=1GiB", "VIGIE_CLICKHOUSE_PASSWORD=s3cret"}, func(c *Config) {
		c.Ingest.MaxInFlight, c.ClickHouse.Password = 1<<30, "s3cret"
	})
	f([]string{"-config", file(t, "")}, nil, func(*Config) {})
}

// Every mistake is named with its place and the way out, and all of them at once.
func TestMistakes(t *testing.T) {
	f := func(text string, args, environ []string, want ...string) {
		t.Helper()
		if text != "" {
			args = append([]string{"-config", file(t, text)}, args...)
		}
		_, err := Load("vigie", args, environ, io.Discard)
		if err == nil {
			t.Fatalf("%q %v %v: got no error, want %q", text, args, environ, want)
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%q %v %v: got %q, want %q in it", text, args, environ, err, w)
			}
		}
	}
	f("kafka:\n  brokers: [a:1]\n  grup: x\n", nil, nil, "line 3", `"kafka.grup"`, `did you mean "group"`)
	f("", []string{"-log.level=warn", "vigie.yaml"}, nil, `argument "vigie.yaml" is not a flag`, "-config file")
	f("", []string{"-kafka.broker=a:1"}, nil, "no flag -kafka.broker;", "did you mean -kafka.brokers?")
	f("", []string{"-checkconfig"}, nil, "did you mean -check-config?")
	f("", []string{"-zzzzzzzzz"}, nil, "-print-config lists")
	f("", []string{"-kafka.brokers"}, nil, "needs an argument")
	f("kafka: {zzzzzzzzz: 1}", nil, nil, "known here", "brokers")
	f("tenants: {overrides: {acme: {shard: 2}}}", nil, nil, `"tenants.overrides.acme.shard"`, `"shards"`)
	f("auth: {keys: [{tenant: acme, role: [read]}]}", nil, nil, `"auth.keys.0.role"`, `"roles"`)
	f("stream:\n  epoch:\n    min: 5\n  workers: 1.5\n", nil, nil, `line 3: stream.epoch.min: got "5", want a duration like "30s"`,
		`line 4: stream.workers: got "1.5", want a whole number`)
	f("\ningest: {max_in_flight: 12XB}", nil, nil, `line 2: ingest.max_in_flight: got "12XB", want a size like "64MiB"`)
	f("kafka: {group: [a], brokers: 5}", nil, nil, "kafka.group: got a list, want text", `kafka.brokers: got "5", want a list`)
	f("kafka: [a]", nil, nil, "kafka: got a list, want a mapping")
	f("hello", nil, nil, "line 1: want keys")
	f("kafka: &x {group: a}\nclickhouse: *x", nil, nil, `unknown key "clickhouse.group"`)
	f("log: {level: info}\n---\nlog: {level: warn}\n", nil, nil, "a second document")
	f("clickhouse: {password: [s3cret]}", nil, nil, "clickhouse.password: got what is there, want a secret")
	f("", nil, []string{"VIGIE_AUTH_KEYS=[{tenant: acme, role: [read]}]"}, `"auth.keys.0.role"`, `"roles"`)
	f("", []string{"-stream.rollups=[{name: x, wher: a}]"}, nil, `did you mean "where"`)
	f("stream: {max_past: yesterday}", nil, nil, "line 1", "yesterday")
	f("stream: {inserts: {buffer: 1KiB}}", nil, nil, "stream.inserts: buffer 1KiB", "1MiB")
	f("ingest: {max_in_flight: 3 potatoes}", nil, nil, "3 potatoes", "64MiB")
	f("a: [", nil, nil, "line 1")
	f("", []string{"-config", "/nonexistent/vigie.yaml"}, nil, "/nonexistent/vigie.yaml")
	f("", nil, []string{"VIGIE_KAFKA_GRUP=x"}, "VIGIE_KAFKA_GRUP", "did you mean VIGIE_KAFKA_GROUP")
	f("", nil, []string{"VIGIE_STREAM_WORKERS=many"}, "VIGIE_STREAM_WORKERS", `"many"`, "whole number")
	f("", []string{"-stream.workers=-1"}, nil, "stream.workers -1")
	f("", []string{"-query.listen=here"}, nil, `query.listen "here"`, "host:port")
	f("", []string{"-query.listen=:70700"}, nil, `query.listen ":70700"`, "host:port")
	f("", nil, []string{"VIGIE_KEYS=x"}, "VIGIE_KEYS: no such key")
	f("auth: {keys: [{sha256: vgk_ABC, tenant: acme, roles: [read]}]}", nil, nil, `auth: keys[0] "": sha256: got the key itself`)
	f("", []string{"-data_dir="}, nil, "data_dir")
	f("", nil, []string{"VIGIE_LOG_LEVEL=loud", "VIGIE_KAFKA_BROKERS=nowhere"}, "log.level", "kafka.brokers")
	f("", []string{"-log.level=loud", "-stream.epoch.min=x"}, nil, "stream.epoch.min", "duration")
	f("stream: {block_bytes: 15872KiB}", nil, nil, "kafka.topics.results.max_message 16MiB", "1MiB more than stream.block_bytes", "16896KiB")
	f("kafka: {topics: {coarse: {max_message: 8MiB}}}", nil, nil, "kafka.topics.coarse.max_message 8MiB", "want 9MiB at least")
	f("", []string{"-nope"}, nil, "nope")
	f("tenants: {overrides: {acme: {shards: 4}}}\nstream: {alerts: [{name: a, from: logs, over: 1m, when: count > 1, tenants: [demo, acme]}]}", nil, nil,
		`stream.alerts[0] "a": tenant acme has 4 shards`, "set its shards to 1")
}

func TestActions(t *testing.T) {
	f := func(argument string, want Action) {
		t.Helper()
		if loaded, err := Load("vigie", []string{argument}, nil, io.Discard); err != nil || loaded.Action != want {
			t.Errorf("%s: got %v, %v, want %v", argument, loaded.Action, err, want)
		}
	}
	f("-check-config", Check)
	f("-print-config", Print)
	var help strings.Builder
	if _, err := Load("vigie", []string{"-help"}, nil, &help); !errors.Is(err, ErrHelp) || !strings.Contains(help.String(), "-<key>=<value>") {
		t.Errorf("help: got %v, %q", err, help.String())
	}
}

// What is printed is a file that says the same, but for secrets, which it never shows.
func TestPrinted(t *testing.T) {
	cfg := Default()
	cfg.ClickHouse.Password, cfg.Kafka.SASL.Password = "pass-one", "pass-two"
	text := string(cfg.YAML())
	if strings.Contains(text, "pass-") || strings.Count(text, "***") != 2 {
		t.Errorf("got secrets, or not two masks, in\n%s", text)
	}
	cfg.ClickHouse.Password, cfg.Kafka.SASL.Password = "", ""
	back := Default()
	back.Kafka.Group = "other"
	if err := parse(cfg.YAML(), &back, ""); err != nil {
		t.Fatal(err)
	}
	if string(back.YAML()) != string(cfg.YAML()) {
		t.Errorf("got\n%s\nwant\n%s", back.YAML(), cfg.YAML())
	}
	_, err := Load("vigie", nil, []string{"VIGIE_CLICKHOUSE_PASSWORD=pass-three", "VIGIE_CLICKHOUSE_PASSWORD_FILE=x"}, io.Discard)
	if err == nil || strings.Contains(err.Error(), "pass-three") {
		t.Errorf("got %v, want an error without the password", err)
	}
}

// Every key can be set by its variable and its flag, to the same effect.
func TestEveryKey(t *testing.T) {
	cfg := Default()
	for _, l := range leaves(reflect.ValueOf(&cfg).Elem(), "") {
		text := strings.TrimSpace(string(mustYAML(t, l.value.Interface())))
		if l.value.Kind() == reflect.Slice && l.value.Type().Elem().Kind() == reflect.String {
			text = strings.Join(l.value.Convert(reflect.TypeFor[[]string]()).Interface().([]string), ",")
		}
		if l.value.Kind() == reflect.String {
			text = l.value.String()
		}
		for _, load := range []func() (Loaded, error){
			func() (Loaded, error) { return Load("vigie", []string{"-" + l.path + "=" + text}, nil, io.Discard) },
			func() (Loaded, error) { return Load("vigie", nil, []string{l.env() + "=" + text}, io.Discard) },
		} {
			loaded, err := load()
			if err != nil {
				t.Errorf("%s=%q: %v", l.path, text, err)
			} else if want := Default(); string(loaded.Config.YAML()) != string(want.YAML()) {
				t.Errorf("%s=%q changed another value", l.path, text)
			}
		}
	}
}

// The nearest name is one that no other is nearer to, by a plain recursion.
func TestDistance(t *testing.T) {
	var naive func(a, b string) int
	naive = func(a, b string) int {
		switch {
		case a == "" || b == "":
			return len(a) + len(b)
		case a[0] == b[0]:
			return naive(a[1:], b[1:])
		}
		return 1 + min(naive(a[1:], b), naive(a, b[1:]), naive(a[1:], b[1:]))
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.StringMatching("[a-c]{0,6}").Draw(t, "a"), rapid.StringMatching("[a-c]{0,6}").Draw(t, "b")
		if got, want := distance(a, b), naive(a, b); got != want {
			t.Fatalf("distance of %q and %q: got %d, want %d", a, b, got, want)
		}
	})
}

// No file makes the parser panic.
func FuzzParse(f *testing.F) {
	f.Add("kafka: {brokers: [a:1]}")
	f.Add("auth: {keys: [{tenant: acme, roles: [read]}]}")
	f.Add("tenants: {overrides: {acme: {}, ? [x] : y}}")
	f.Add("a: &a [*a]")
	f.Fuzz(func(t *testing.T, text string) {
		cfg := Default()
		if parse([]byte(text), &cfg, "") == nil {
			_ = cfg.Validate()
		}
	})
}

func mustYAML(t *testing.T, v any) []byte {
	t.Helper()
	text, err := yaml.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

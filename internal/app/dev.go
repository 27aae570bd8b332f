package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/config"
	"github.com/vigie-io/vigie/internal/devstack"
	"github.com/vigie-io/vigie/internal/pause"
	"github.com/vigie-io/vigie/internal/telemetry"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/internal/units"
)

// The tenants of `vigie dev`.
const (
	demoTenant tenants.ID = "demo"
	acmeTenant tenants.ID = "acme"
)

const (
	startTimeout = 2 * time.Minute // for the parts to become ready, a first migration included
	readyEvery   = 50 * time.Millisecond
)

// Dev runs the whole of Vigie on this machine until ctx ends: embedded broker and ClickHouse, migrations, the three
// services, live data. What people should know goes to out; logs go to p.Log.
func Dev(ctx context.Context, cfg config.Config, p Process, out io.Writer) error {
	dir, err := openDataDir(cfg.DataDir)
	if err != nil {
		return err
	}
	keys, err := dir.keys(demoTenant, acmeTenant)
	if err != nil {
		return err
	}
	if err := checkPorts(cfg); err != nil {
		return err
	}
	parts, err := startParts(ctx, cfg, dir, p, out)
	if err != nil {
		return err
	}
	defer parts.close()
	cfg = parts.point(cfg, keys)
	if err := prepareStores(ctx, cfg, p); err != nil {
		return err
	}
	return runDev(ctx, cfg, p, keys, parts, out)
}

// checkPorts finds a port in use before anything is started, with the key that moves it.
func checkPorts(cfg config.Config) error {
	for _, address := range []struct{ part, addr, setting string }{
		{"query", cfg.Query.Listen, "query.listen"},
		{"ingest", cfg.Ingest.Listen, "ingest.listen"},
		{"stream", cfg.Stream.Listen, "stream.listen"},
		{"the embedded Kafka broker", cfg.Dev.KafkaListen, "dev.kafka_listen"},
		{"the embedded ClickHouse (HTTP)", cfg.Dev.ClickHouseHTTP, "dev.clickhouse_http"},
		{"the embedded ClickHouse (native)", cfg.Dev.ClickHouseNative, "dev.clickhouse_native"},
	} {
		listener, err := telemetry.Listen(address.addr, address.part, address.setting)
		if err != nil {
			return err
		}
		if err := listener.Close(); err != nil {
			return fmt.Errorf("probe %s: %w", address.addr, err)
		}
	}
	return nil
}

// parts are the embedded servers.
type parts struct {
	kafka      *devstack.Kafka
	clickhouse *devstack.ClickHouse
	secrets    credentials
}

func startParts(ctx context.Context, cfg config.Config, dir dataDir, p Process, out io.Writer) (*parts, error) {
	secrets, err := dir.credentials()
	if err != nil {
		return nil, err
	}
	users, err := clickhouse.UsersXML(clickhouse.Access{
		ServicePassword: units.Secret(secrets.Writer), SQLPassword: units.Secret(secrets.SQL), Limits: cfg.ClickHouse.SQL,
	})
	if err != nil {
		return nil, err
	}
	lib, err := devstack.EnsureClickHouse(ctx, "", func(line string) { fmt.Fprintln(out, line) })
	if err != nil {
		return nil, err
	}
	started := &parts{secrets: secrets}
	started.kafka, err = devstack.StartKafka(ctx, devstack.KafkaConfig{
		Addr: cfg.Dev.KafkaListen, Dir: dir.path("kafka"), Log: p.Log,
	})
	if err != nil {
		return nil, err
	}
	started.clickhouse, err = devstack.StartClickHouse(ctx, devstack.ClickHouseConfig{
		Dir: dir.path("clickhouse"), HTTPAddr: cfg.Dev.ClickHouseHTTP, NativeAddr: cfg.Dev.ClickHouseNative,
		UsersXML: users, Lib: lib, Log: p.Log,
	})
	if err != nil {
		started.close()
		return nil, err
	}
	return started, nil
}

// point makes the services use the embedded servers and know the development keys.
func (s *parts) point(cfg config.Config, keys []devKey) config.Config {
	cfg.Kafka.Brokers = []string{s.kafka.Addr()}
	cfg.ClickHouse.Addrs = []string{s.clickhouse.HTTPAddr()}
	cfg.ClickHouse.Password = units.Secret(s.secrets.Writer)
	cfg.ClickHouse.SQLPassword = units.Secret(s.secrets.SQL)
	cfg.Auth.Keys = append(authKeys(keys), cfg.Auth.Keys...)
	if cfg.Auth.LoopbackTenant == "" {
		cfg.Auth.LoopbackTenant = demoTenant
	}
	if cfg.Tracing.Endpoint == "" {
		cfg.Tracing.Endpoint = "http://" + dialable(cfg.Ingest.Listen)
	}
	return cfg
}

// reread makes a reread configuration one of the embedded servers, too.
func (s *parts) reread(read func() (config.Config, error), keys []devKey) func() (config.Config, error) {
	if read == nil {
		return nil
	}
	return func() (config.Config, error) {
		cfg, err := read()
		if err != nil {
			return cfg, err
		}
		return s.point(cfg, keys), nil
	}
}

func (s *parts) close() {
	var closing sync.WaitGroup
	closing.Go(func() { _ = s.kafka.Close() })
	if s.clickhouse != nil {
		closing.Go(func() { _ = s.clickhouse.Close() })
	}
	closing.Wait()
}

// runDev runs the services and the live data until ctx ends or one of them does.
func runDev(ctx context.Context, cfg config.Config, p Process, keys []devKey, parts *parts, out io.Writer) error {
	group := newGroup(ctx)
	var checks []namedCheck
	var services []measured
	for _, service := range []struct {
		name string
		run  Runner
	}{{"ingest", Ingest}, {"stream", Stream}, {"query", Query}} {
		opened := make(chan telemetry.Check, 1)
		process := Process{
			Name: service.name, Version: p.Version, Log: p.Log.With("service", service.name),
			Ready: func(check telemetry.Check) { opened <- check }, TracingKey: plainKey(keys, demoTenant),
			Reread: parts.reread(p.Reread, keys),
		}
		process.prepare()
		services = append(services, measured{"vigie-" + service.name, process.Registry})
		group.run(service.name, func(ctx context.Context) error { return service.run(ctx, cfg, process) })
		select {
		case check := <-opened:
			checks = append(checks, namedCheck{service.name, check})
		case <-group.ctx.Done():
			return group.wait()
		}
	}
	group.run("ClickHouse", func(ctx context.Context) error { return parts.watch(ctx) })
	if err := awaitReady(group.ctx, checks); err != nil {
		group.stop()
		return errors.Join(err, group.wait())
	}
	group.run("live data", func(ctx context.Context) error { return feed(ctx, cfg, p, plainKey(keys, demoTenant), services) })
	printTable(out, cfg, keys)
	<-group.ctx.Done()
	if ctx.Err() != nil {
		fmt.Fprintln(out, "\nstopping: finishing the running epoch, closing Kafka and ClickHouse")
	}
	return group.wait()
}

// watch ends when ClickHouse has given up restarting.
func (s *parts) watch(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-s.clickhouse.Done():
		return fmt.Errorf("embedded ClickHouse ended: %w", s.clickhouse.Err())
	}
}

type namedCheck struct {
	name  string
	check telemetry.Check
}

func awaitReady(ctx context.Context, checks []namedCheck) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for _, c := range checks {
		for {
			err := c.check(ctx)
			if err == nil {
				break
			}
			if pause.For(ctx, readyEvery) != nil {
				return fmt.Errorf("%s is not ready: %w", c.name, err)
			}
		}
	}
	return nil
}

// dialable is a listen address as a client on this machine would dial it.
func dialable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// prepareStores makes topics and tables, so that no service has to wait for them.
func prepareStores(ctx context.Context, cfg config.Config, p Process) error {
	if err := newTopics(cfg.Kafka, p.Log).once(ctx); err != nil {
		return err
	}
	return Migrate(ctx, cfg, false, io.Discard)
}

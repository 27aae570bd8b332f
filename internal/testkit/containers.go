package testkit

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// EnvContainers says whether Apache Kafka and the stock ClickHouse come from containers: "" where the tests are built
// with the tag containers and a Docker engine answers, "never", or "always", without which tests that want them fail.
const EnvContainers = "VIGIE_TEST_CONTAINERS"

// defaultDocker is where an engine listens that DOCKER_HOST does not name.
const defaultDocker = "unix:///var/run/docker.sock"

// choice is where parts come from, found out once in a test binary.
type choice struct {
	once       sync.Once
	containers bool
	why        string // of containers, or of none
	err        error  // containers are demanded, and cannot be had
}

var parts choice

// containers says whether parts come from containers. The first test that asks says so on standard error.
func (c *choice) find(t testing.TB) (containers bool, err error) {
	c.once.Do(func() {
		host := os.Getenv("DOCKER_HOST")
		if host == "" {
			host = defaultDocker
		}
		ping := func() (string, error) { return pingDocker(t.Context(), host) }
		c.containers, c.why, c.err = choose(os.Getenv(EnvContainers), containersBuilt, ping)
		fmt.Fprintf(os.Stderr, "*** parts of tests: %s\n", c.why)
	})
	return c.containers, c.err
}

// choose decides by the environment, by how the tests are built, and by what an engine answers.
func choose(env string, built bool, ping func() (string, error)) (containers bool, why string, err error) {
	const own = "Apache Kafka is this machine's Java, ClickHouse the embedded engine"
	switch env {
	case "", "always":
	case "never":
		return false, own + " (" + EnvContainers + "=never)", nil
	default:
		err = fmt.Errorf("%s=%q: want always, never or nothing", EnvContainers, env)
		return false, err.Error(), err
	}
	engine, err := ping()
	switch {
	case err == nil && built:
		return true, "Apache Kafka and the stock ClickHouse are containers of " + engine, nil
	case err == nil:
		why = own + ": " + engine + " answers, but the tests are built without -tags containers"
	default:
		why = own + ": no Docker engine answers: " + err.Error()
	}
	if env == "always" {
		return false, why, fmt.Errorf("%s=always: %s", EnvContainers, strings.TrimPrefix(why, own+": "))
	}
	return false, why, nil
}

// pingDocker names the engine that answers at host.
func pingDocker(ctx context.Context, host string) (engine string, err error) {
	at, err := url.Parse(host)
	if err != nil {
		return "", fmt.Errorf("DOCKER_HOST %q: %w", host, err)
	}
	network, addr := "tcp", at.Host
	switch at.Scheme {
	case "unix":
		network, addr = "unix", at.Path
	case "tcp", "http":
	default:
		return "", fmt.Errorf("DOCKER_HOST %q: want unix:///path or tcp://host:port", host)
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker/_ping", nil)
	if err != nil {
		return "", err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return "", fmt.Errorf("ask %s: %w", host, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("ask %s: got status %s", host, response.Status)
	}
	return fmt.Sprintf("the Docker engine at %s (API %s)", host, response.Header.Get("Api-Version")), nil
}

// StockClickHouse starts the server that production runs, with Keeper beside it, so that a cluster named "vigie" of one
// node has replicated tables. usersXML is as of [ClickHouse]. It comes from a container only: elsewhere the part is
// missing.
func StockClickHouse(t testing.TB, usersXML []byte) *Server {
	t.Helper()
	containers, err := parts.find(t)
	if err != nil {
		t.Fatal(err)
	}
	if !containers {
		Missing(t, "the stock ClickHouse", parts.why)
	}
	addr, err := containerClickHouse(t, usersXML)
	if err != nil {
		t.Fatal(err)
	}
	return &Server{HTTPAddr: addr, t: t}
}

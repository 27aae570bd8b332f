//go:build containers

package testkit

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/wait"
)

const (
	containersBuilt = true

	kafkaImage      = "apache/kafka:" + apacheVersion
	clickhouseImage = "clickhouse/clickhouse-server:26.7"
	pullTime        = 10 * time.Minute // an image that is not there is pulled first
)

// containerKafka starts a node of Apache Kafka with the settings of those that Java runs here. It is the test binary's
// own; the engine's reaper ends it when the binary dies.
func containerKafka(t testing.TB) (addr string, stop func(), err error) {
	ctx, cancel := context.WithTimeout(context.Background(), pullTime)
	defer cancel()
	addr = FreeAddr(t) // clients are told to come here, so it must be known before the start
	of := &node{id: 1, addr: addr, controller: "localhost:9093", voters: "1@localhost:9093", copies: 1}
	env := map[string]string{}
	for line := range strings.Lines(of.properties("/tmp/vigie")) {
		if name, value, is := strings.Cut(strings.TrimSpace(line), "="); is {
			env["KAFKA_"+strings.ToUpper(strings.ReplaceAll(name, ".", "_"))] = value
		}
	}
	env["KAFKA_LISTENERS"] = "PLAINTEXT://0.0.0.0:9092,CONTROLLER://localhost:9093"
	container, err := testcontainers.Run(ctx, kafkaImage,
		testcontainers.WithEnv(env), testcontainers.WithExposedPorts(addr+":9092/tcp"))
	stop = func() { _ = testcontainers.TerminateContainer(container) }
	if err == nil {
		err = awaitKafka(addr, nil, nil)
	}
	if err != nil {
		stop()
		return "", nil, fmt.Errorf("start %s: %w", kafkaImage, err)
	}
	return addr, stop, nil
}

// replicated makes the server a cluster of one, with Keeper in it.
//
//go:embed clickhouse/replicated.xml
var replicated []byte

// containerClickHouse starts a server that the test has to itself.
func containerClickHouse(t testing.TB, usersXML []byte) (addr string, err error) {
	ctx, cancel := context.WithTimeout(t.Context(), pullTime)
	defer cancel()
	options := []testcontainers.ContainerCustomizer{
		testcontainers.WithExposedPorts("8123/tcp"),
		clickhouseFile("config.d/replicated.xml", replicated),
		testcontainers.WithWaitStrategy(wait.ForHTTP("/ping").WithPort("8123/tcp")),
		// Without it the image takes away the network access of the user without a password.
		testcontainers.WithEnv(map[string]string{"CLICKHOUSE_SKIP_USER_SETUP": "1"}),
	}
	if usersXML != nil {
		options = append(options, clickhouseFile("users.xml", usersXML))
	}
	container, err := testcontainers.Run(ctx, clickhouseImage, options...)
	t.Cleanup(func() { _ = testcontainers.TerminateContainer(container) })
	if err != nil {
		return "", fmt.Errorf("start %s: %w", clickhouseImage, err)
	}
	return container.PortEndpoint(ctx, "8123/tcp", "")
}

// clickhouseFile puts a file into the server's folder of configuration.
func clickhouseFile(name string, text []byte) testcontainers.ContainerCustomizer {
	return testcontainers.WithFiles(testcontainers.ContainerFile{
		Reader: bytes.NewReader(text), ContainerFilePath: "/etc/clickhouse-server/" + name, FileMode: 0o644,
	})
}

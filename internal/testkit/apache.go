package testkit

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/devstack"
)

const (
	apacheVersion = "4.3.1"
	apacheSpace   = 200 << 20
	apacheTime    = 3 * time.Minute
	dataDir       = "data" // in a node's own
)

// pom names Kafka and what it needs; jarSums is the SHA-256 of each file that comes of it, as sha256sum prints it.
var (
	//go:embed kafka/pom.xml
	pom []byte
	//go:embed kafka/jars.sha256
	jarSums string
)

// missingError says that a machine lacks what a part needs, which is no fault of the code under test.
type missingError struct{ error }

// apache is the one Apache Kafka of a test binary.
type apache struct {
	once sync.Once
	addr string
	err  error
	stop func() // nil when it was not started
}

var sharedApache apache

// start starts the server at its first call, and gives the same answer ever after.
func (a *apache) start(t testing.TB) (string, error) {
	a.once.Do(func() {
		if containers, err := parts.find(t); containers || err != nil {
			if a.err = err; err == nil {
				a.addr, a.stop, a.err = containerKafka(t)
			}
			return
		}
		jars, err := ensureApache(context.Background(), func(line string) { t.Log(line) })
		if err != nil {
			a.err = missingError{err}
			return
		}
		a.err = a.launch(t, jars)
	})
	return a.addr, a.err
}

// close ends the server, if it was started.
func (a *apache) close() {
	a.once.Do(func() {}) // no start after the end
	if a.stop != nil {
		a.stop()
	}
}

// launch formats a new data directory and starts the server on free ports.
func (a *apache) launch(t testing.TB, jars string) error {
	dir, err := os.MkdirTemp("", "vigie-kafka-")
	if err != nil {
		return err
	}
	node := nodesOf(t, 1)[0]
	command, err := node.format(dir, jars)
	if err != nil {
		return err
	}
	addr := node.addr
	server, err := devstack.StartTethered(dir, filepath.Join(dir, "console.log"), command...)
	if err != nil {
		return err
	}
	if err := awaitKafka(addr, server.Done(), server.Failure); err != nil {
		server.Stop()
		return fmt.Errorf("start Apache Kafka on %s: %w", addr, err)
	}
	a.stop, a.addr = server.Stop, addr
	return nil
}

// node is a KRaft node that is broker and controller at once, one of a cluster.
type node struct {
	id               int // from 1
	addr, controller string
	voters           string   // ids and controllers of all nodes
	copies           int      // of each partition; all but one of them, and at least one, acknowledge a write
	extra            []string // further properties, which replace others of the same name
}

// nodesOf gives the n nodes of a cluster addresses of their own.
func nodesOf(t testing.TB, n int) []*node {
	t.Helper()
	nodes, voters := make([]*node, n), make([]string, n)
	for i := range nodes {
		nodes[i] = &node{id: i + 1, addr: FreeAddr(t), controller: FreeAddr(t), copies: n}
		voters[i] = fmt.Sprintf("%d@%s", i+1, nodes[i].controller)
	}
	for _, node := range nodes {
		node.voters = strings.Join(voters, ",")
	}
	return nodes
}

// format makes a data directory in dir, and returns the command that runs the node on it.
func (n *node) format(dir, jars string) (command []string, err error) {
	java, err := exec.LookPath("java")
	if err != nil {
		return nil, missingError{errors.New("java is not on PATH; " +
			"install Java 17 or later (Debian: apt-get install default-jre-headless)")}
	}
	properties := filepath.Join(dir, "server.properties")
	if err := os.WriteFile(properties, []byte(n.properties(dir)), 0o600); err != nil {
		return nil, err
	}
	base := []string{
		java, "-Xmx512m", "-XX:+ExitOnOutOfMemoryError", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
		"-cp", filepath.Join(jars, "*"),
	}
	format := exec.Command(java, append(base[1:len(base):len(base)],
		"kafka.tools.StorageTool", "format", "-t", "Vigie0test0cluster0id0A", "-c", properties)...)
	if output, err := format.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("format Apache Kafka's data directory: %w: %s", err, bytes.TrimSpace(output))
	}
	return append(base, "kafka.Kafka", properties), nil
}

func (n *node) properties(dir string) string {
	copies, acknowledge := strconv.Itoa(n.copies), strconv.Itoa(max(n.copies-1, 1))
	return strings.Join([]string{
		"process.roles=broker,controller",
		"node.id=" + strconv.Itoa(n.id),
		"controller.quorum.voters=" + n.voters,
		"listeners=PLAINTEXT://" + n.addr + ",CONTROLLER://" + n.controller,
		"advertised.listeners=PLAINTEXT://" + n.addr,
		"controller.listener.names=CONTROLLER",
		"listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
		"log.dirs=" + filepath.Join(dir, dataDir),
		"auto.create.topics.enable=false",
		"default.replication.factor=" + copies,
		"min.insync.replicas=" + acknowledge,
		"offsets.topic.replication.factor=" + copies,
		"offsets.topic.num.partitions=8",
		"transaction.state.log.replication.factor=" + copies,
		"transaction.state.log.min.isr=" + acknowledge,
		"transaction.state.log.num.partitions=8",
		"share.coordinator.state.topic.replication.factor=" + copies,
		"share.coordinator.state.topic.min.isr=" + acknowledge,
		"group.initial.rebalance.delay.ms=0",
		"broker.session.timeout.ms=3000", // until a dead node is given up; 9 s by default
		"broker.heartbeat.interval.ms=500",
		strings.Join(n.extra, "\n"),
		"",
	}, "\n")
}

// awaitKafka returns when the broker at addr answers, or with its failure when it ended.
func awaitKafka(addr string, ended <-chan struct{}, failure func() error, options ...kgo.Opt) error {
	client, err := kgo.NewClient(append(options, kgo.SeedBrokers(addr))...)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), apacheTime)
	defer cancel()
	for {
		if err = client.Ping(ctx); err == nil {
			return nil
		}
		select {
		case <-ended:
			return failure()
		case <-ctx.Done():
			return fmt.Errorf("no answer within %s: %w", apacheTime, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// ensureApache returns the folder with Kafka's jars, fetched by Maven the first time and checked against jarSums.
func ensureApache(ctx context.Context, progress func(string)) (string, error) {
	return devstack.EnsureCached(ctx, "", devstack.Part{
		Name:  "kafka-" + apacheVersion,
		Space: apacheSpace,
		Valid: func(dir string) bool { return forEachJar(dir, jarThere) == nil },
		Fetch: func(ctx context.Context, work string) (string, error) {
			progress("fetching Apache Kafka " + apacheVersion + " once (44 MB)")
			return fetchApache(ctx, work)
		},
	}, progress)
}

func fetchApache(ctx context.Context, work string) (string, error) {
	maven, err := exec.LookPath("mvn")
	if err != nil {
		return "", errors.New("mvn is not on PATH; install Maven (Debian: apt-get install maven) or set " + EnvKafka +
			" to a running cluster")
	}
	if err := os.WriteFile(filepath.Join(work, "pom.xml"), pom, 0o644); err != nil {
		return "", err
	}
	jars := filepath.Join(work, "lib")
	cmd := exec.CommandContext(ctx, maven, "-q", "-B", "-C", "dependency:copy-dependencies", "-DoutputDirectory="+jars)
	cmd.Dir = work
	if output, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("mvn: %w: %s; connect to the network, check Maven's settings, or set %s to a running cluster",
			err, bytes.TrimSpace(output), EnvKafka)
	}
	return jars, forEachJar(jars, checkJar)
}

// forEachJar calls f with each pinned jar's path and checksum until one errs.
func forEachJar(dir string, f func(path, sum string) error) error {
	for line := range strings.Lines(jarSums) {
		sum, name, ok := strings.Cut(strings.TrimSpace(line), "  ")
		if !ok {
			panic("BUG: embedded jars.sha256: " + line)
		}
		if err := f(filepath.Join(dir, name), sum); err != nil {
			return err
		}
	}
	return nil
}

func jarThere(path, _ string) error {
	_, err := os.Stat(path)
	return err
}

func checkJar(path, sum string) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("check fetched jar: %w", err)
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return fmt.Errorf("check fetched jar: %w", err)
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != sum {
		return fmt.Errorf("check fetched jar %s: got SHA-256 %s, want %s", filepath.Base(path), got, sum)
	}
	return nil
}

package compare

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
)

// javaMain is the class of a peer in Java.
var javaMain = map[string]string{"kafka-streams": "Streams", "flink": "Flink", "jet": "Jet"}

// buildJava fetches what a peer in Java needs, with Maven, and compiles it. Each has a directory of its own, for each
// wants another Kafka client.
func (b *bench) buildJava(t *testing.T, peer string) (classPath string) {
	t.Helper()
	source, err := filepath.Abs(filepath.Join("..", "peers", "java"))
	if err != nil {
		t.Fatal(err)
	}
	classes, jars := filepath.Join(b.dir, peer, "classes"), filepath.Join(b.dir, peer, "jars")
	classPath = classes + ":" + filepath.Join(jars, "*")
	if _, err := os.Stat(classes); err == nil {
		return classPath // of an earlier round
	}
	sources := filepath.Join(source, "src", "main", "java")
	for _, arguments := range [][]string{
		{"mvn", "-q", "-B", "-P", peer, "dependency:copy-dependencies", "-DoutputDirectory=" + jars},
		{"javac", "-nowarn", "-d", classes, "-cp", filepath.Join(jars, "*"), "-sourcepath", sources, filepath.Join(sources, javaMain[peer]+".java")},
	} {
		cmd := exec.CommandContext(t.Context(), arguments[0], arguments[1:]...)
		cmd.Dir = source
		if output, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %s of bench/peers/java: %v\n%s", peer, err, output)
		}
	}
	return classPath
}

// java runs a peer of bench/peers/java. Its processor time leaves out the first fifth of the records, in which code is
// compiled.
func (b *bench) java(t *testing.T, r *Run) {
	t.Helper()
	path := b.buildJava(t, r.Peer)
	results := b.topic + ".results"
	b.create(t, results)
	defer b.drop(results)
	cmd := exec.CommandContext(t.Context(), "java", "-Xmx4g",
		// what Flink and Hazelcast ask for on this JVM
		"--add-modules=java.se", "--add-exports=java.base/jdk.internal.ref=ALL-UNNAMED",
		"--add-opens=java.base/java.lang=ALL-UNNAMED", "--add-opens=java.base/java.util=ALL-UNNAMED",
		"--add-opens=java.base/java.nio=ALL-UNNAMED", "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
		"--add-opens=java.management/sun.management=ALL-UNNAMED",
		"--add-opens=jdk.management/com.sun.management.internal=ALL-UNNAMED",
		"-cp", path, javaMain[r.Peer],
		b.broker.Addr, b.topic, results, strconv.Itoa(b.log.Records), t.TempDir())
	a := b.answer(t, r.Peer, cmd)
	r.Events, r.Results, r.CPU, r.Wall, r.Resident = a.Records, a.Results, a.CPU, a.Wall, a.Resident
}

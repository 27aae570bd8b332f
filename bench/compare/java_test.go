package compare

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
)

// javaMain is the class of a peer in Java.
var javaMain = map[string]string{"kafka-streams": "Streams"}

// javaPeers are built once, into a directory that lives as long as the test.
var javaPeers struct {
	sync.Once
	classes, jars string
	err           error
	output        []byte
}

// buildJava fetches what the peers in Java need, with Maven, and compiles them.
func (b *bench) buildJava(t *testing.T) (classPath string) {
	t.Helper()
	javaPeers.Do(func() {
		source, err := filepath.Abs(filepath.Join("..", "peers", "java"))
		if err != nil {
			javaPeers.err = err
			return
		}
		javaPeers.classes, javaPeers.jars = filepath.Join(b.dir, "classes"), filepath.Join(b.dir, "jars")
		fetch := exec.CommandContext(t.Context(), "mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory="+javaPeers.jars)
		fetch.Dir = source
		if javaPeers.output, javaPeers.err = fetch.CombinedOutput(); javaPeers.err != nil {
			return
		}
		files, err := filepath.Glob(filepath.Join(source, "src", "main", "java", "*.java"))
		if err != nil {
			javaPeers.err = err
			return
		}
		compile := exec.CommandContext(t.Context(), "javac", append([]string{"-d", javaPeers.classes, "-cp", filepath.Join(javaPeers.jars, "*")}, files...)...)
		javaPeers.output, javaPeers.err = compile.CombinedOutput()
	})
	if javaPeers.err != nil {
		t.Fatalf("build bench/peers/java: %v\n%s", javaPeers.err, javaPeers.output)
	}
	return javaPeers.classes + ":" + filepath.Join(javaPeers.jars, "*")
}

// java runs a peer of bench/peers/java. Its processor time leaves out the first fifth of the records, in which code is compiled.
func (b *bench) java(t *testing.T, r *Run) {
	t.Helper()
	path := b.buildJava(t)
	results := b.topic + ".results"
	b.create(t, results)
	defer b.drop(results)
	cmd := exec.CommandContext(t.Context(), "java", "-Xmx4g", "-cp", path, javaMain[r.Peer],
		b.broker.Addr, b.topic, results, strconv.Itoa(b.log.Records), t.TempDir())
	cmd.Stderr = os.Stderr
	output, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var a answer
	if err := json.Unmarshal(output, &a); err != nil {
		t.Fatalf("%s: %v in %s", r.Peer, err, output)
	}
	b.check(t, r.Peer, &a)
	r.Events, r.Results, r.CPU, r.Wall, r.Resident = a.Records, a.Results, a.CPU, a.Wall, a.Resident
}

package cli

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// run calls vigie with a clean environment.
func run(args ...string) (code int, out, errs string) {
	var stdout, stderr bytes.Buffer
	code = Vigie("v1.2.3", args, Streams{In: strings.NewReader(""), Out: &stdout, Err: &stderr})
	return code, stdout.String(), stderr.String()
}

// Exit code, standard output and standard error of what is asked without any server.
func TestCommands(t *testing.T) {
	wrong := filepath.Join(t.TempDir(), "wrong.yaml")
	if err := os.WriteFile(wrong, []byte("kafka: {grup: x}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := func(args string, code int, out, errs string) {
		t.Helper()
		gotCode, gotOut, gotErrs := run(strings.Fields(args)...)
		if gotCode != code || !strings.Contains(gotOut, out) || !strings.Contains(gotErrs, errs) || out == "" && gotOut != "" || errs == "" && gotErrs != "" {
			t.Errorf("vigie %s: got %d, %q, %q, want %d, %q, %q", args, gotCode, gotOut, gotErrs, code, out, errs)
		}
	}
	f("version", exitOK, "vigie v1.2.3\n", "")
	f("help", exitOK, "Usage: vigie <command>", "")
	f("", exitUsage, "", "Usage: vigie <command>")
	f("frobnicate", exitUsage, "", `no command "frobnicate"`)
	f("config check", exitOK, "configuration is valid\n", "")
	f("config print -kafka.group=mine", exitOK, "group: mine", "")
	f("config", exitUsage, "", "usage: vigie config check|print")
	f("config check -config "+wrong, exitUsage, "", `did you mean "group"?`)
	f("config check -config /nonexistent", exitUsage, "", "/nonexistent")
	f("migrate -kafka.brokers=nowhere", exitUsage, "", "kafka.brokers")
	f("dev -help", exitOK, "", "-<key>=<value>")
	f("keys", exitUsage, "", "usage: vigie keys new")
	f("dlq", exitUsage, "", "usage: vigie dlq list")
	f("dlq frobnicate", exitUsage, "", "usage: vigie dlq list")
	f("dlq show 1-2", exitUsage, "", "1-2")
	f("dlq list -limit 0", exitUsage, "", "-limit 0")
}

// The key on standard output is the one whose digest is shown for the configuration, and no two are the same.
func TestNewKeys(t *testing.T) {
	seen := map[string]bool{}
	for range 3 {
		code, out, errs := run("keys", "new", "acme")
		key := strings.TrimSpace(out)
		digest := sha256.Sum256([]byte(key))
		if code != exitOK || !regexp.MustCompile(`^vgk_[A-Z2-7]{50,}$`).MatchString(key) || seen[key] {
			t.Fatalf("got %d, %q, want a new key", code, out)
		}
		seen[key] = true
		if !strings.Contains(errs, "{sha256: "+hex.EncodeToString(digest[:])+", tenant: acme,") || strings.Contains(errs, key) {
			t.Errorf("got %q, want the digest of the key and not the key", errs)
		}
	}
}

// Flags of dlq stand among those of the configuration, in any order.
func TestDeadLetterFlags(t *testing.T) {
	code, out, errs := run("dlq", "replay", "-config", "x.yaml", "0/12", "-dry-run", "-kafka.group=g", "3/4")
	if code != exitUsage || out != "" || !strings.Contains(errs, "x.yaml") {
		t.Errorf("got %d, %q, %q, want that x.yaml is read", code, out, errs)
	}
}

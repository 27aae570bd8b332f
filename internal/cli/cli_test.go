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
	f("frobnicate", exitUsage, "", "vigie: no command \"frobnicate\"; `vigie help` lists them\n")
	f("verfy -from x", exitUsage, "", "vigie: no command \"verfy\"; did you mean `vigie verify`? `vigie help` lists them\n")
	f("config check", exitOK, "configuration is valid\n", "")
	f("config print -kafka.group=mine", exitOK, "group: mine", "")
	f("config", exitUsage, "", "usage: vigie config check|print")
	f("help verify", exitOK, "usage: vigie verify -from", "")
	f("help nothing", exitUsage, "", `no command "nothing"`)
	f("config check my.yaml", exitUsage, "", `argument "my.yaml" is not a flag: a file is given as -config file`)
	f("migrate my.yaml", exitUsage, "", `"my.yaml"`)
	f("demo my.yaml", exitUsage, "", `"my.yaml"`)
	f("dev -kafka.broker=x", exitUsage, "", "did you mean -kafka.brokers?")
	f("dev -xyzzyplugh", exitUsage, "", "no flag -xyzzyplugh; -print-config lists the keys, which are flags\n`vigie dev -help` says")
	f("backfill -signal logs -from x -paralel 2", exitUsage, "", "no flag -paralel; -print-config lists the keys, which are flags\n`vigie backfill -help` says")
	f("config frobnicate", exitUsage, "", "vigie config: got \"frobnicate\", want check or print\n`vigie config -help` says how it is called\n")
	f("audit result", exitUsage, "", "vigie audit: got \"result\", want results\n")
	f("rules chek x", exitUsage, "", "vigie rules: got \"chek\", want check or test\n")
	f("rules check", exitUsage, "", "vigie rules: check which? give files\n")
	f("keys mew", exitUsage, "", "vigie keys: got \"mew\", want new\n")
	f("keys new a b", exitUsage, "", "want one tenant")
	f("keys new -acme", exitUsage, "", "-acme")
	f("dlq list 0/12", exitUsage, "", "takes no dead letters")
	f("config check -config "+wrong, exitUsage, "", `did you mean "group"?`)
	f("config check -config /nonexistent", exitUsage, "", "/nonexistent")
	// Files that are part of the configuration are read, too.
	f("config check -auth.keys_file=/nonexistent", exitUsage, "", "auth: read keys_file: open /nonexistent")
	write := func(text string) (path string) {
		path = filepath.Join(t.TempDir(), "file.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	f("config check -auth.keys_file="+write("keys: [{sha256: short, tenant: acme}]"), exitUsage, "", "sha256")
	f("config check -config "+write("rules: {tenants: {acme: {files: [/nonexistent]}}}"), exitUsage, "", "/nonexistent")
	f("migrate -kafka.brokers=nowhere", exitUsage, "", "kafka.brokers")
	f("migrate -print-access -clickhouse.password=0123456789abcdef -clickhouse.sql_password=fedcba9876543210", exitOK, "CREATE ROW POLICY IF NOT EXISTS vigie_tenant ON vigie.queries", "")
	f("migrate -print-access -clickhouse.password=short", exitFailure, "", "want at least 16 bytes")
	f("migrate -print-access -clickhouse.user=me", exitFailure, "", `clickhouse.user "me"`)
	f("keys", exitUsage, "", "usage: vigie keys new")
	f("dlq", exitUsage, "", "usage: vigie dlq list")
	f("dlq frobnicate", exitUsage, "", "vigie dlq: got \"frobnicate\", want list, show or replay\n`vigie dlq -help` says how it is called\n")
	f("dlq show", exitUsage, "", "vigie dlq: show which?")
	f("dlq list -since yesterday", exitUsage, "", `-since "yesterday": want 2h, or 2006-01-02T15:04:05Z`)
	f("verify -from x -since tomorrow", exitUsage, "", "vigie verify: -since \"tomorrow\": want 2h, or 2006-01-02T15:04:05Z\n`vigie verify -help` says how it is called\n")
	f("audit results -table x", exitUsage, "", "`vigie audit -help`")
	f("backfill", exitUsage, "", "`vigie backfill -help`")
	f("dlq show 1-2", exitUsage, "", "1-2")
	f("dlq list -limit 0", exitUsage, "", "-limit 0")
}

// Help is asked for and not a mistake: on standard output, with every flag of the command's own, and nothing is done.
func TestHelpOfCommands(t *testing.T) {
	f := func(args string, want ...string) {
		t.Helper()
		for _, help := range []string{"-h", "-help", "--help"} {
			code, out, errs := run(append(strings.Fields(args), help)...)
			if code != exitOK || errs != "" {
				t.Errorf("vigie %s %s: got %d and %q, want the help on standard output", args, help, code, errs)
			}
			for _, w := range want {
				if !strings.Contains(out, w) {
					t.Errorf("vigie %s %s: got %q, want %q in it", args, help, out, w)
				}
			}
		}
	}
	for _, c := range commands {
		f(c.name, "usage: vigie "+c.name)
	}
	f("dev", "-config file")
	f("migrate", "-dry-run", "-print-access", "-config file")
	f("verify -from x", "-from", "-memory", "-config file")
	f("backfill", "-signal", "-replace", "-config file")
	f("audit results", "-repair")
	f("dlq replay", "-all")
	f("demo", "-rate", "-tenants", "-seed")
	f("keys new", "keys new [tenant]")
	f("rules check", "-lint-fatal")
	f("config print", "check|print", "-config file")
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

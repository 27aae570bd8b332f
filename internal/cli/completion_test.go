package cli

import (
	"os/exec"
	"strings"
	"testing"
)

// A real bash completes what the help says.
func TestBashCompletion(t *testing.T) {
	code, script, errs := run("completion", "bash")
	if code != exitOK || errs != "" {
		t.Fatalf("got %d, %q", code, errs)
	}
	f := func(line, want string) {
		t.Helper()
		words := strings.Split(line, " ")
		ask := script + "\nCOMP_WORDS=('" + strings.Join(words, "' '") + "'); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _vigie; echo \"${COMPREPLY[*]}\""
		out, err := exec.Command("bash", "-c", ask).CombinedOutput()
		if err != nil {
			t.Fatalf("bash: %v: %s", err, out)
		}
		if got := strings.TrimSpace(string(out)); got != want {
			t.Errorf("%q: got %q, want %q", line, got, want)
		}
	}
	f("vigie ver", "version verify")
	f("vigie help d", "dev dlq demo")
	f("vigie dlq re", "replay")
	f("vigie dlq ", "list replay show -all -check-config -config -dry-run -limit -print-config -reason -since -tenant -topic -until")
	f("vigie dlq replay -a", "-all")
	f("vigie config ", "check print -check-config -config -print-config")
	f("vigie rules ", "check test -lint-fatal")
	f("vigie backfill -r", "-range -rejects -replace -replace-empty -runs")
	f("vigie completion z", "zsh")
	f("vigie nonsense x", "")
}

func TestOtherCompletions(t *testing.T) {
	f := func(shell, want string) {
		t.Helper()
		if _, out, _ := run("completion", shell); !strings.Contains(out, want) {
			t.Errorf("%s: got %q, want %q in it", shell, out, want)
		}
	}
	f("zsh", "bashcompinit\n_vigie() {")
	f("fish", "complete -c vigie -n __fish_use_subcommand -a rules -d '`rules check` and")
	f("fish", "complete -c vigie -n '__fish_seen_subcommand_from dlq' -a 'list replay show'\n")
	f("fish", "complete -c vigie -n '__fish_seen_subcommand_from dlq' -o dry-run\n")
	if code, _, errs := run("completion", "tcsh"); code != exitUsage || !strings.Contains(errs, "want bash, zsh or fish") {
		t.Errorf("got %d, %q", code, errs)
	}
}

package cli

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/vigie-io/vigie/internal/config"
)

const completionUsage = `usage: vigie completion bash|zsh|fish

Prints what a shell needs to complete the words of vigie. For bash and zsh:

  source <(vigie completion bash)

and for fish: vigie completion fish | source
`

func init() { // refers to the commands itself
	commands = append(commands, command{"completion", "print the completion of bash, zsh or fish", completionUsage, false, completion})
}

func completion(_ context.Context, _ string, args []string, s Streams) int {
	shell := ""
	if len(args) == 1 {
		shell = args[0]
	}
	switch shell {
	case "bash":
		fmt.Fprint(s.Out, bashCompletion())
	case "zsh":
		fmt.Fprint(s.Out, "autoload -U +X bashcompinit && bashcompinit\n", bashCompletion())
	case "fish":
		fmt.Fprint(s.Out, fishCompletion())
	default:
		return unknownVerb(s, "vigie completion", completionUsage, args, "bash, zsh or fish")
	}
	return exitOK
}

var flagInUsage = regexp.MustCompile(`(?m)(?:^|[\s\[|])(-[a-z][a-z.-]*)`)

// words are the verbs and flags of a command, as its help has them.
func (c *command) words() (verbs, flags []string) {
	verb := regexp.MustCompile(`(?m)(?:usage: |^ +)vigie ` + c.name + ` ([a-z]+(?:\|[a-z]+)*)`)
	for _, m := range verb.FindAllStringSubmatch(c.usage, -1) {
		verbs = append(verbs, strings.Split(m[1], "|")...)
	}
	help := c.usage
	if c.configured {
		help += config.FlagsHelp
	}
	for _, m := range flagInUsage.FindAllStringSubmatch(help, -1) {
		if !strings.Contains(m[1], ".") { // a key of the configuration, as an example
			flags = append(flags, m[1])
		}
	}
	slices.Sort(verbs)
	slices.Sort(flags)
	return slices.Compact(verbs), slices.Compact(flags)
}

func bashCompletion() string {
	var b strings.Builder
	b.WriteString("_vigie() {\n  local words\n  case \"$COMP_CWORD ${COMP_WORDS[1]}\" in\n")
	fmt.Fprintf(&b, "  '1 '*) words='%s' ;;\n", strings.Join(commandNames(), " "))
	fmt.Fprintf(&b, "  '2 help') words='%s' ;;\n", strings.Join(commandNames(), " "))
	for _, c := range commands {
		verbs, flags := c.words()
		fmt.Fprintf(&b, "  *' %s') words='%s' ;;\n", c.name, strings.Join(append(verbs, flags...), " "))
	}
	b.WriteString("  esac\n  COMPREPLY=($(compgen -W \"$words\" -- \"${COMP_WORDS[COMP_CWORD]}\"))\n}\ncomplete -o default -F _vigie vigie\n")
	return b.String()
}

func fishCompletion() string {
	var b strings.Builder
	quote := func(text string) string { return "'" + strings.ReplaceAll(text, "'", `\'`) + "'" }
	for _, c := range commands {
		fmt.Fprintf(&b, "complete -c vigie -n __fish_use_subcommand -a %s -d %s\n", c.name, quote(c.about))
		verbs, flags := c.words()
		within := "complete -c vigie -n '__fish_seen_subcommand_from " + c.name + "'"
		if len(verbs) > 0 {
			fmt.Fprintf(&b, "%s -a %s\n", within, quote(strings.Join(verbs, " ")))
		}
		for _, flag := range flags {
			fmt.Fprintf(&b, "%s -o %s\n", within, strings.TrimPrefix(flag, "-"))
		}
	}
	return b.String()
}

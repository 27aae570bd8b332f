package cli

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/peterh/liner"
)

const consoleHelp = `A statement ends with a semicolon at the end of a line and may have several lines.
  \d            tables            \d NAME   columns of a table
  \f FORMAT     format of answers, such as Vertical or JSONEachRow
  \? this help  \q or Ctrl-D      end
Ctrl-C drops what was typed, or ends the query that runs. Tab completes names; history is in %s.
`

// completionTime bounds how long the start waits for the names to complete.
const completionTime = 2 * time.Second

// words that begin or join clauses, completed beside the names that the service knows.
var words = strings.Fields("SELECT FROM WHERE GROUP BY ORDER LIMIT HAVING WITH AS AND OR NOT IN BETWEEN LIKE " +
	"JOIN LEFT INNER ON USING UNION ALL DISTINCT ARRAY DESC ASC INTERVAL HOUR DAY MINUTE FORMAT DESCRIBE SHOW TABLES EXPLAIN")

// console is vigie sql at a terminal.
type console struct {
	*sqlSession
	line    *liner.State
	s       Streams
	history string // file; "" keeps none
	names   []string
}

// runConsole reads statements from a terminal until its end. A statement that fails does not end it.
func runConsole(ctx context.Context, session *sqlSession, s Streams) int {
	ctx = context.WithoutCancel(ctx) // Ctrl-C ends a query, not the program
	c := &console{sqlSession: session, s: s, history: historyFile(s.Environ), line: liner.NewLiner()}
	defer c.close()
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	go func() {
		<-terminated
		_ = c.line.Close() // the terminal as it was
		os.Exit(128 + int(syscall.SIGTERM))
	}()
	c.line.SetCtrlCAborts(true)
	c.line.SetTabCompletionStyle(liner.TabPrints)
	c.line.SetWordCompleter(c.complete)
	if file, err := os.Open(c.history); err == nil {
		_, _ = c.line.ReadHistory(file) // a line that is not one is left out
		_ = file.Close()
	}
	fmt.Fprintf(s.Out, "vigie sql at %s. \\? helps, \\q ends.\n", session.url)
	c.learn(ctx)
	return c.loop(ctx)
}

func (c *console) loop(ctx context.Context) int {
	var typed strings.Builder
	for {
		prompt := "vigie> "
		if typed.Len() > 0 {
			prompt = "    -> "
		}
		text, err := c.line.Prompt(prompt)
		switch {
		case errors.Is(err, liner.ErrPromptAborted):
			typed.Reset()
			continue
		case errors.Is(err, io.EOF):
			fmt.Fprintln(c.s.Out)
			return exitOK
		case err != nil:
			return fail(c.s, "vigie sql", fmt.Errorf("read from the terminal: %w", err))
		}
		if typed.Len() == 0 && isCommand(text) {
			c.line.AppendHistory(strings.TrimSpace(text))
			if !c.obey(ctx, strings.Fields(strings.TrimSuffix(strings.TrimSpace(text), ";"))) {
				return exitOK
			}
			continue
		}
		typed.WriteString(text + "\n")
		statement, whole := strings.CutSuffix(strings.TrimSpace(typed.String()), ";")
		if !whole {
			if statement == "" {
				typed.Reset()
			}
			continue
		}
		typed.Reset()
		if statement == "" {
			continue
		}
		c.line.AppendHistory(strings.Join(strings.Fields(statement), " ") + ";")
		c.answer(ctx, statement)
	}
}

// isCommand tells what is for the console from what is SQL.
func isCommand(text string) bool {
	word := strings.ToLower(strings.TrimSuffix(strings.TrimSpace(text), ";"))
	return strings.HasPrefix(word, `\`) || word == "quit" || word == "exit" || word == "help"
}

// obey carries out a command and says whether to go on.
func (c *console) obey(ctx context.Context, words []string) bool {
	argument := ""
	if len(words) > 1 {
		argument = words[1]
	}
	switch strings.ToLower(words[0]) {
	case `\q`, "quit", "exit":
		return false
	case `\d`:
		if argument == "" {
			c.answer(ctx, "SELECT name, comment FROM system.tables WHERE database = 'api' ORDER BY name")
		} else {
			c.answer(ctx, "SELECT name, type, comment FROM system.columns WHERE database = 'api' AND table = '"+
				strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(strings.TrimPrefix(argument, "api."))+"' ORDER BY position")
		}
	case `\f`:
		c.format = cmp.Or(argument, "PrettyCompact")
		fmt.Fprintf(c.s.Out, "answers in %s\n", c.format)
	default:
		fmt.Fprintf(c.s.Out, consoleHelp, cmp.Or(c.history, "no file"))
	}
	return true
}

// answer runs a statement, which Ctrl-C ends, on the server too.
func (c *console) answer(ctx context.Context, statement string) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt)
	defer stop()
	begun := time.Now()
	err := c.run(ctx, statement)
	switch {
	case ctx.Err() != nil:
		fmt.Fprintln(c.s.Err, "cancelled")
	case err != nil:
		fmt.Fprintln(c.s.Err, err)
	default:
		fmt.Fprintf(c.s.Err, "%s\n", time.Since(begun).Round(time.Millisecond))
	}
}

const allNames = "SELECT DISTINCT arrayJoin([table, name]) AS word FROM system.columns WHERE database = 'api' ORDER BY word"

// learn asks for the names to complete. Without an answer there are only the words of the language.
func (c *console) learn(ctx context.Context) {
	c.names = slices.Clone(words)
	ctx, cancel := context.WithTimeout(ctx, completionTime)
	defer cancel()
	var list bytes.Buffer
	ask := sqlSession{url: c.url, key: c.key, format: "TabSeparatedRaw", out: &list}
	if ask.run(ctx, allNames) == nil {
		c.names = append(c.names, strings.Fields(list.String())...)
	}
}

// complete finds the words that continue the one before the cursor.
func (c *console) complete(line string, at int) (head string, found []string, tail string) {
	runes := []rune(line)
	head, tail = string(runes[:at]), string(runes[at:])
	begin := strings.LastIndexFunc(head, func(r rune) bool { return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) }) + 1
	word := head[begin:]
	for _, name := range c.names {
		if word != "" && len(name) > len(word) && strings.EqualFold(name[:len(word)], word) {
			found = append(found, name)
		}
	}
	return head[:begin], found, tail
}

// historyFile is where typed statements are kept: $XDG_STATE_HOME/vigie/sql_history, else below ~/.local/state.
func historyFile(environ []string) string {
	state := cmpEnv(environ, "XDG_STATE_HOME", "")
	if home := cmpEnv(environ, "HOME", ""); state == "" && home != "" {
		state = filepath.Join(home, ".local", "state")
	}
	if state == "" {
		return ""
	}
	return filepath.Join(state, "vigie", "sql_history")
}

// close gives the terminal back and keeps the history, which may hold what others should not read.
func (c *console) close() {
	defer func() { _ = c.line.Close() }()
	if c.history == "" {
		return
	}
	err := os.MkdirAll(filepath.Dir(c.history), 0o700)
	if err == nil {
		var text bytes.Buffer
		if _, err = c.line.WriteHistory(&text); err == nil {
			err = os.WriteFile(c.history, text.Bytes(), 0o600)
		}
	}
	if err != nil {
		fmt.Fprintf(c.s.Err, "vigie sql: keep the history: %v\n", err)
	}
}

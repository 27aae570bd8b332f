package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/vigie-io/vigie/internal/query/sqlgate"
)

const sqlUsage = `usage: vigie sql [flags] 'SELECT …'
       vigie sql [flags] -f file.sql
       vigie sql [flags] < file.sql
       vigie sql [flags]              at a terminal: a prompt with history and completion

Runs SQL as the tenant of an API key, through the query service's /sql, and prints the answer as it comes. Several
statements are separated by semicolons; the first that fails ends the run.

  -url      base address of the query service; VIGIE_URL, else http://127.0.0.1:7070
  -format   ClickHouse's name of a format, such as CSV or JSONEachRow. Default PrettyCompact on a terminal, else TabSeparated
  -f        file with statements

The key is read from VIGIE_KEY; without one, vigie dev takes requests from its own machine as tenant demo.
Exit codes: 0 all answered, 1 a statement failed, 2 wrong usage.
`

// sqlSession is where statements go and how their answers look.
type sqlSession struct {
	url, key, format string
	out              io.Writer
}

func runSQL(ctx context.Context, _ string, args []string, s Streams) int {
	session := sqlSession{url: cmpEnv(s.Environ, "VIGIE_URL", "http://127.0.0.1:7070"),
		key: cmpEnv(s.Environ, "VIGIE_KEY", ""), out: s.Out}
	flags := flag.NewFlagSet("vigie sql", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&session.url, "url", session.url, "")
	flags.StringVar(&session.format, "format", "", "")
	file := flags.String("f", "", "")
	given, err := parseBetween(flags, args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(s.Out, sqlUsage)
		return exitOK
	case err != nil:
		return misused(s, "vigie sql", err)
	case len(given) > 1, len(given) == 1 && *file != "":
		return misused(s, "vigie sql", fmt.Errorf("got %q, want statements in one pair of quotes, or -f, or standard input", given))
	}
	if !strings.Contains(session.url, "://") {
		session.url = "http://" + session.url
	}
	if session.format == "" {
		session.format = "TabSeparated"
		if terminal(s.Out) {
			session.format = "PrettyCompact"
		}
	}
	if len(given) == 0 && *file == "" && terminal(s.In) && terminal(s.Out) {
		return runConsole(ctx, &session, s)
	}
	statements, err := sqlStatements(strings.Join(given, ""), *file, s.In)
	if err != nil {
		return fail(s, "vigie sql", err)
	}
	for _, statement := range statements {
		if err := session.run(ctx, statement); err != nil {
			return fail(s, "vigie sql", err)
		}
	}
	return exitOK
}

// parseBetween parses flags that stand before, between and behind other arguments, and returns these.
func parseBetween(flags *flag.FlagSet, args []string) (others []string, err error) {
	for {
		if err := flags.Parse(args); err != nil || flags.NArg() == 0 {
			return others, err
		}
		others = append(others, flags.Arg(0))
		args = flags.Args()[1:]
	}
}

// cmpEnv is the value of an environment variable, or fallback when it is not set or empty.
func cmpEnv(environ []string, name, fallback string) string {
	i := slices.IndexFunc(environ,
		func(entry string) bool { return strings.HasPrefix(entry, name+"=") && len(entry) > len(name)+1 })
	if i < 0 {
		return fallback
	}
	return environ[i][len(name)+1:]
}

func terminal(stream any) bool {
	file, ok := stream.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func sqlStatements(argument, file string, in io.Reader) ([]string, error) {
	text := []byte(argument)
	var err error
	switch {
	case argument != "":
	case file != "":
		text, err = os.ReadFile(file)
	default:
		text, err = io.ReadAll(in)
	}
	if err != nil {
		return nil, fmt.Errorf("read statements: %w", err)
	}
	statements := sqlgate.Statements(string(text))
	if len(statements) == 0 {
		return nil, usageError("no statement: give one as an argument, with -f, or on standard input")
	}
	return statements, nil
}

// run sends one statement and prints its answer. Ending ctx ends the statement on the server.
func (q *sqlSession) run(ctx context.Context, statement string) error {
	target := strings.TrimRight(q.url, "/") + "/sql?" + url.Values{"default_format": {q.format}}.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target, strings.NewReader(statement))
	if err != nil {
		return fmt.Errorf("ask %s: %w", q.url, err)
	}
	if q.key != "" {
		request.Header.Set("Authorization", "Bearer "+q.key)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("ask the query service: %w; -url or VIGIE_URL says where it is", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 64<<10)) // what came of it says more than why it ended
		if response.Header.Get("X-ClickHouse-Exception-Code") == "" {
			return fmt.Errorf("%s answered %s, not as a query service does; -url or VIGIE_URL says where it is", target, response.Status)
		}
		return fmt.Errorf("%s", strings.TrimSpace(string(text)))
	}
	if _, err := io.Copy(q.out, response.Body); err != nil {
		return fmt.Errorf("read the answer: %w; what was printed is not all of it", err)
	}
	return nil
}

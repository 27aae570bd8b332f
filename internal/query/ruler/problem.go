package ruler

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"
)

// Problem is what is wrong at one place of a file.
type Problem struct {
	File      string
	Line, Col int // from 1; 0 when not known
	Text      string
}

func (p Problem) Error() string {
	switch {
	case p.Line == 0:
		return p.File + ": " + p.Text
	case p.Col == 0:
		return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Text)
	}
	return fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Col, p.Text)
}

// newParser reads the language that queries are written in.
func newParser() parser.Parser { return parser.NewParser(parser.Options{}) }

// parseFile reads a rule file as Prometheus does. Its problems are in the order of the file.
func parseFile(path string) (*rulefmt.RuleGroups, []Problem) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, []Problem{{File: path, Text: strings.TrimPrefix(err.Error(), "open "+path+": ")}}
	}
	groups, errs := rulefmt.Parse(text, false, model.UTF8Validation, newParser(), slog.New(slog.DiscardHandler))
	lines := strings.Split(string(text), "\n")
	var problems []Problem
	for _, err := range errs {
		problems = append(problems, locate(path, text, lines, err)...)
	}
	slices.SortStableFunc(problems, func(a, b Problem) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Col - b.Col
	})
	return groups, problems
}

var (
	placed     = regexp.MustCompile(`^(\d+):(\d+): `)
	unknownKey = regexp.MustCompile(`^field (\S+) (?:not found in|already set in) type`)
	repeated   = regexp.MustCompile(`groupname: "(.*)" is repeated`)
	yamlLine   = regexp.MustCompile(`^line (\d+): (.*)`)
)

// locate finds the place that an error of rulefmt speaks of: it has it as text only.
func locate(path string, file []byte, lines []string, err error) []Problem {
	text := err.Error()
	if rest, found := strings.CutPrefix(text, "yaml: "); found {
		return locateYAML(path, lines, rest)
	}
	p := Problem{File: path, Text: text}
	for { // a second place is that of the other field at fault
		m := placed.FindStringSubmatch(p.Text)
		if m == nil {
			break
		}
		p.Text = p.Text[len(m[0]):]
		if p.Line == 0 {
			p.Line, p.Col = atoi(m[1]), atoi(m[2])
		}
	}
	if p.Line == 0 {
		p.Line, p.Col = whole(file, err)
	}
	var syntax parser.ParseErrors
	var one *parser.ParseErr
	if errors.As(err, &syntax) && len(syntax) > 0 {
		one = &syntax[0]
	} else if !errors.As(err, &one) {
		return []Problem{p}
	}
	p.insideExpression(lines, one)
	return []Problem{p}
}

// whole is the place of the rule, or of the group, that an error without a place names.
func whole(file []byte, err error) (line, col int) {
	var root yaml.Node
	if yaml.Unmarshal(file, &root) != nil {
		return 0, 0
	}
	var of *rulefmt.Error
	name, number := "", 0
	if errors.As(err, &of) {
		name, number = of.Group, of.Rule
	} else if m := repeated.FindStringSubmatch(err.Error()); m != nil {
		name = m[1]
	}
	for i := 0; ; i++ {
		group := find(&root, "groups", i)
		if group == nil {
			return line, col
		}
		if title := child(group, "name"); title == nil || title.Value != name {
			continue
		}
		if rule := find(group, "rules", number-1); rule != nil {
			return rule.Line, rule.Column
		}
		line, col = group.Line, group.Column // of those with one name, the last
	}
}

// find goes down from a document or a node, by keys and numbers.
func find(node *yaml.Node, steps ...any) *yaml.Node {
	if node.Kind == yaml.DocumentNode {
		node = node.Content[0]
	}
	for _, step := range steps {
		if node = child(node, step); node == nil {
			return nil
		}
	}
	return node
}

func child(node *yaml.Node, step any) *yaml.Node {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	switch step := step.(type) {
	case int:
		if node.Kind == yaml.SequenceNode && 0 <= step && step < len(node.Content) {
			return node.Content[step]
		}
	case string:
		for k := 0; node.Kind == yaml.MappingNode && k+1 < len(node.Content); k += 2 {
			if node.Content[k].Value == step {
				return node.Content[k+1]
			}
		}
	}
	return nil
}

// locateYAML cuts the several errors of one document apart.
func locateYAML(path string, lines []string, text string) (problems []Problem) {
	for part := range strings.SplitSeq(strings.TrimPrefix(text, "unmarshal errors:\n"), "\n") {
		p := Problem{File: path, Text: strings.TrimSpace(part)}
		if m := yamlLine.FindStringSubmatch(p.Text); m != nil {
			p.Line, p.Text = atoi(m[1]), m[2]
			if key := unknownKey.FindStringSubmatch(p.Text); key != nil && p.Line <= len(lines) {
				p.Col = strings.Index(lines[p.Line-1], key[1]) + 1
			}
		}
		problems = append(problems, p)
	}
	return problems
}

// insideExpression moves p, the place of an expression, to where in it the parser stopped. The file shows an expression
// as it is on one line or in a block that keeps its line ends; elsewhere p stays at its beginning.
func (p *Problem) insideExpression(lines []string, e *parser.ParseErr) {
	if p.Line == 0 || p.Line > len(lines) || p.Col > len(lines[p.Line-1]) {
		return
	}
	before := e.Query[:min(int(e.PositionRange.Start), len(e.Query))]
	line := strings.Count(before, "\n")
	col := len(before) - strings.LastIndexByte(before, '\n') - 1
	shown := strings.Split(e.Query, "\n")[line]
	at := p.Line - 1
	if strings.HasPrefix(lines[at][p.Col-1:], "|") {
		at += 1 + line
	} else if line > 0 {
		return
	}
	if at >= len(lines) {
		return
	}
	if begin := strings.Index(lines[at], shown); begin >= 0 {
		p.Line, p.Col = at+1, begin+col+1
	}
}

func atoi(text string) int {
	n, _ := strconv.Atoi(text)
	return n
}

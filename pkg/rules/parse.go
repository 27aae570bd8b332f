// Package rules is the language in which configuration says which events it means: conditions such as
//
//	kind == "server" && (status_code >= 500 || route =~ "/pay.*")
//
// Its main type is Expr: Parse makes one from text, and Match decides with it about one event's Fields, without
// allocating. It is pure and total: no condition loops, fails while it is evaluated, or reaches beyond the fields of
// its event. It has no arithmetic and no functions but has(): what has to be computed belongs in the event.
//
// docs/rules.md describes the language for users.
package rules

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Bounds of an expression.
const (
	MaxText  = 4096 // bytes
	maxDepth = 32   // of parentheses and negations
)

// Expr is a condition. Safe for concurrent use.
type Expr struct {
	root   node
	fields []string
}

// ParseError says where an expression is wrong. Line and Col count from 1, Col in characters.
type ParseError struct {
	Line, Col int
	Msg       string
}

// Error implements error.
func (e *ParseError) Error() string { return fmt.Sprintf("%d:%d: %s", e.Line, e.Col, e.Msg) }

// Parse reads an expression. A mistake is a *ParseError.
func Parse(text string) (*Expr, error) {
	p := &parser{lexer: lexer{text: text}}
	if len(text) > MaxText {
		return nil, &ParseError{1, 1, fmt.Sprintf("%d bytes: want at most %d", len(text), MaxText)}
	}
	if !utf8.ValidString(text) {
		return nil, &ParseError{1, 1, "not UTF-8"}
	}
	e := new(Expr)
	err := p.catch(func() {
		p.next()
		e.root = p.or()
		if p.token.kind != end {
			p.fail(p.token, "%s: want && or ||, or the end", p.token)
		}
	})
	if err != nil {
		return nil, err
	}
	e.root.walk(func(name string) {
		if !slices.Contains(e.fields, name) {
			e.fields = append(e.fields, name)
		}
	})
	return e, nil
}

// Fields are the names of the fields that the expression looks at, in the order in which they first stand in it.
func (e *Expr) Fields() []string { return e.fields }

// String is the expression in its canonical form, which parses to an equal one.
func (e *Expr) String() string {
	var b strings.Builder
	e.root.print(&b, 0)
	return b.String()
}

type kind uint8

const (
	end kind = iota
	name
	text
	number
	symbol
)

type token struct {
	kind   kind
	text   string // of a name or string: its value
	number float64
	at     int
}

func (t token) String() string {
	switch t.kind {
	case end:
		return "the end"
	case text:
		return strconv.Quote(t.text)
	default:
		return t.text
	}
}

type lexer struct {
	text string
	at   int
}

var symbols = []string{"==", "!=", "=~", "!~", "<=", ">=", "&&", "||", "<", ">", "!", "(", ")", "[", "]", ","}

// token reads the next token; a mistake is its message.
func (l *lexer) token() (t token, mistake string) {
	for l.at < len(l.text) && strings.IndexByte(" \t\r\n", l.text[l.at]) >= 0 {
		l.at++
	}
	t.at = l.at
	if l.at == len(l.text) {
		return t, ""
	}
	rest := l.text[l.at:]
	first, _ := utf8.DecodeRuneInString(rest)
	switch {
	case first == '"' || first == '\'':
		return l.quoted(byte(first))
	case first == '`':
		close := strings.IndexByte(rest[1:], '`')
		if close <= 0 {
			return t, "a name in backticks that does not end, or is empty"
		}
		l.at += close + 2
		return token{kind: name, text: rest[1 : close+1], at: t.at}, ""
	case unicode.IsLetter(first) || first == '_':
		n := strings.IndexFunc(rest,
			func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '_' && r != '.' })
		if n < 0 {
			n = len(rest)
		}
		l.at += n
		return token{kind: name, text: rest[:n], at: t.at}, ""
	case first >= '0' && first <= '9' || first == '-' || first == '.':
		return l.number()
	}
	for _, s := range symbols {
		if strings.HasPrefix(rest, s) {
			l.at += len(s)
			return token{kind: symbol, text: s, at: t.at}, ""
		}
	}
	if first == '=' {
		return t, "=: want == or =~"
	}
	return t, fmt.Sprintf("%q: want a name, a string, a number or an operator", first)
}

func (l *lexer) quoted(quote byte) (token, string) {
	start := l.at
	for i := start + 1; i < len(l.text); i++ {
		switch l.text[i] {
		case '\\':
			i++
		case '\n':
			return token{at: start}, "a string that does not end on its line"
		case quote:
			raw := l.text[start : i+1]
			l.at = i + 1
			if quote == '\'' {
				raw = `"` + strings.NewReplacer(`\'`, `'`, `"`, `\"`, `\\`, `\\`).Replace(raw[1:len(raw)-1]) + `"`
			}
			value, err := strconv.Unquote(raw)
			if err != nil {
				return token{at: start}, l.text[start:i+1] + `: not a string (a backslash is written \\)`
			}
			return token{kind: text, text: value, at: start}, ""
		}
	}
	return token{at: start}, "a string that does not end"
}

// number reads 5, -0.5, 1e3, or a duration like 250ms, which is a number of seconds.
func (l *lexer) number() (token, string) {
	start := l.at
	n := strings.IndexFunc(l.text[start:], func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '.' && r != '-' && r != '+' && r != 'µ'
	})
	if n < 0 {
		n = len(l.text) - start
	}
	word := l.text[start : start+n]
	l.at += n
	if value, err := strconv.ParseFloat(word, 64); err == nil && value-value == 0 {
		return token{kind: number, text: word, number: value, at: start}, ""
	}
	if value, err := time.ParseDuration(word); err == nil {
		return token{kind: number, text: word, number: value.Seconds(), at: start}, ""
	}
	return token{at: start}, word + ": want a number like 0.5, or a duration like 250ms"
}

type parser struct {
	lexer
	token token
	depth int
}

// catch turns the first mistake into an error.
func (p *parser) catch(parse func()) (err error) {
	defer func() {
		if r := recover(); r != nil {
			mistake, ok := r.(*ParseError)
			if !ok {
				panic(r)
			}
			err = mistake
		}
	}()
	parse()
	return nil
}

func (p *parser) fail(at token, format string, args ...any) {
	before := p.text[:at.at]
	line := strings.Count(before, "\n")
	col := utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:])
	panic(&ParseError{Line: line + 1, Col: col + 1, Msg: fmt.Sprintf(format, args...)})
}

func (p *parser) next() {
	t, mistake := p.lexer.token()
	if mistake != "" {
		p.fail(t, "%s", mistake)
	}
	p.token = t
}

// take goes on when the token is one of the words; and, or, not are names until they stand where an operator does.
func (p *parser) take(words ...string) bool {
	for _, w := range words {
		if (p.token.kind == symbol || p.token.kind == name) && p.token.text == w {
			p.next()
			return true
		}
	}
	return false
}

func (p *parser) or() node {
	left := p.and()
	for p.take("||", "or") {
		left = &or{left, p.and()}
	}
	return left
}

func (p *parser) and() node {
	left := p.not()
	for p.take("&&", "and") {
		left = &and{left, p.not()}
	}
	return left
}

func (p *parser) not() node {
	if p.depth++; p.depth > maxDepth {
		p.fail(p.token, "nested deeper than %d", maxDepth)
	}
	defer func() { p.depth-- }()
	if p.take("!", "not") {
		return &not{p.not()}
	}
	if p.take("(") {
		inner := p.or()
		if !p.take(")") {
			p.fail(p.token, "%s: want )", p.token)
		}
		return inner
	}
	return p.comparison()
}

func (p *parser) comparison() node {
	field := p.token
	if field.kind != name {
		p.fail(field, "%s: want the name of a field", field)
	}
	p.next()
	if field.text == "has" && p.take("(") {
		inner := p.token
		if inner.kind != name {
			p.fail(inner, "%s: want the name of a field", inner)
		}
		p.next()
		if !p.take(")") {
			p.fail(p.token, "%s: want )", p.token)
		}
		return &has{inner.text}
	}
	op := p.token
	switch {
	case p.take("in"):
		return p.list(field.text)
	case p.take("=~", "!~"):
		return p.match(field.text, op.text == "!~")
	case p.take("==", "!=", "<", "<=", ">", ">="):
		value := p.token
		switch {
		case value.kind == number:
			p.next()
			return &compareNumber{field.text, op.text, value.number}
		case value.kind == text && (op.text == "==" || op.text == "!="):
			p.next()
			return &compareText{field.text, value.text, op.text == "!="}
		case value.kind == text:
			p.fail(value, "%s: %s compares numbers", value, op.text)
		}
		p.fail(value, `%s: want a string in quotes or a number`, value)
	}
	p.fail(op, "%s after %s: want ==, !=, <, <=, >, >=, =~, !~ or in", op, field.text)
	return nil
}

func (p *parser) match(field string, negated bool) node {
	pattern := p.token
	if pattern.kind != text {
		p.fail(pattern, "%s: want a regular expression in quotes", pattern)
	}
	re, err := regexp.Compile("^(?s:" + pattern.text + ")$")
	if err != nil {
		p.fail(pattern, "%s: not a regular expression (RE2)", pattern)
	}
	p.next()
	return &match{field, pattern.text, re, negated}
}

func (p *parser) list(field string) node {
	if !p.take("[") {
		p.fail(p.token, "%s: want a list like [\"a\", \"b\"]", p.token)
	}
	l := &in{field: field}
	first := p.token
	for {
		value := p.token
		switch {
		case value.kind != first.kind || value.kind != text && value.kind != number:
			p.fail(value, "%s: want a list of strings, or one of numbers", value)
		case value.kind == text:
			l.texts = append(l.texts, value.text)
		default:
			l.numbers = append(l.numbers, value.number)
		}
		p.next()
		if p.take("]") {
			return l
		}
		if !p.take(",") {
			p.fail(p.token, "%s: want , or ]", p.token)
		}
	}
}

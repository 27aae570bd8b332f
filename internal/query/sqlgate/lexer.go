package sqlgate

import (
	"fmt"
	"strings"
)

// tokenKind is the lexical class of a token, as far as the gateway cares.
type tokenKind uint8

const (
	word   tokenKind = iota // keyword, function or bare name
	quoted                  // name in backticks or double quotes, without them
	text                    // string or heredoc
	number                  // begins with a digit
	sign                    // one character of punctuation
)

// token is a piece of a statement that is not space and not a comment.
type token struct {
	kind tokenKind
	text string // of a word: lower case; of a quoted name: what is between the quotes; of a sign: itself
	at   int    // byte offset of its beginning
	end  int    // and of what follows it
}

// lex splits a statement as ClickHouse does. Wherever versions of ClickHouse, or this lexer and theirs, could
// disagree about where a string or a comment ends, the statement is refused: what is let through has one
// reading. That takes away nothing that cannot be written in a plainer way.
func lex(sql string) ([]token, error) {
	l := lexer{sql: strings.TrimPrefix(sql, "\ufeff")}
	l.shift = len(sql) - len(l.sql)
	for l.at < len(l.sql) {
		if err := l.next(); err != nil {
			return nil, err
		}
	}
	return l.tokens, nil
}

type lexer struct {
	sql    string
	at     int
	shift  int // bytes of a byte order mark before sql
	tokens []token
}

func (l *lexer) fail(at int, format string, args ...any) error {
	return refuse(syntaxError, "%s, at byte %d", fmt.Sprintf(format, args...), at+l.shift)
}

func (l *lexer) add(kind tokenKind, text string, end int) {
	l.tokens = append(l.tokens, token{kind, text, l.at + l.shift, end + l.shift})
	l.at = end
}

func (l *lexer) rest() string { return l.sql[l.at:] }

func (l *lexer) next() error {
	switch c := l.sql[l.at]; {
	case isSpace(c):
		l.at++
	case strings.HasPrefix(l.rest(), "--"), strings.HasPrefix(l.rest(), "# "), strings.HasPrefix(l.rest(), "#!"):
		l.lineComment()
	case strings.HasPrefix(l.rest(), "/*"):
		return l.blockComment()
	case strings.HasPrefix(l.rest(), "//"):
		return l.fail(l.at, "'//' is not understood; comments are -- and /* */")
	case c == '\'', c == '"', c == '`':
		return l.quote(c)
	case c == '$':
		return l.heredoc()
	case isLetter(c):
		end := l.run(isWord)
		l.add(word, strings.ToLower(l.sql[l.at:end]), end)
	case isDigit(c):
		end := l.run(isWord)
		if !isNumber(strings.ToLower(l.sql[l.at:end])) {
			return l.fail(l.at, "%q is not a number; a name that begins with a digit belongs in backticks", clip(l.sql[l.at:end]))
		}
		l.add(number, l.sql[l.at:end], end)
	case c == '\\', c == '#', c < ' ', c >= 0x7f:
		return l.fail(l.at, "unexpected %q outside of quotes", []rune(l.rest()[:min(4, len(l.rest()))])[0])
	default:
		l.add(sign, string(c), l.at+1)
	}
	return nil
}

// run returns the end of the characters that is takes.
func (l *lexer) run(is func(byte) bool) int {
	end := l.at
	for end < len(l.sql) && is(l.sql[end]) {
		end++
	}
	return end
}

func (l *lexer) lineComment() {
	if end := strings.IndexByte(l.rest(), '\n'); end >= 0 {
		l.at += end + 1
		return
	}
	l.at = len(l.sql)
}

func (l *lexer) blockComment() error {
	body := l.rest()[2:]
	end := strings.Index(body, "*/")
	if end < 0 {
		return l.fail(l.at, "comment is not closed")
	}
	// Some versions nest comments, some do not. "/*/" at the end of one begins another for those that do.
	if strings.Contains(body[:end+1], "/*") {
		return l.fail(l.at, "comment inside a comment")
	}
	l.at += 2 + end + 2
	return nil
}

// quote reads to the closing quote: a backslash takes the next byte with it, a doubled quote is one.
func (l *lexer) quote(q byte) error {
	for i := l.at + 1; i < len(l.sql); i++ {
		switch l.sql[i] {
		case 0:
			return l.fail(i, "zero byte; write \\0")
		case '\\':
			if q != '\'' {
				return l.fail(i, "backslash in a name")
			}
			i++
		case q:
			if i+1 < len(l.sql) && l.sql[i+1] == q {
				if q != '\'' {
					return l.fail(i, "quote in a name")
				}
				i++
				continue
			}
			kind := quoted
			if q == '\'' {
				kind = text
			}
			l.add(kind, l.sql[l.at+1:i], i+1)
			return nil
		}
	}
	return l.fail(l.at, "%c is not closed", q)
}

// heredoc reads $tag$ … $tag$.
func (l *lexer) heredoc() error {
	end := strings.IndexByte(l.rest()[1:], '$')
	if end < 0 {
		return l.fail(l.at, "unexpected '$'")
	}
	tag := l.rest()[:end+2]
	for i := 1; i < len(tag)-1; i++ {
		if !isLetter(tag[i]) && !isDigit(tag[i]) {
			return l.fail(l.at, "unexpected '$'")
		}
	}
	body := l.rest()[len(tag):]
	length := strings.Index(body, tag)
	if length < 0 {
		return l.fail(l.at, "%s is not closed", clip(tag))
	}
	if strings.IndexByte(body[:length], 0) >= 0 {
		return l.fail(l.at, "zero byte")
	}
	l.add(text, body[:length], l.at+length+2*len(tag))
	return nil
}

func isSpace(c byte) bool  { return c == ' ' || '\t' <= c && c <= '\r' }
func isDigit(c byte) bool  { return '0' <= c && c <= '9' }
func isLetter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' }
func isWord(c byte) bool   { return isLetter(c) || isDigit(c) || c == '$' }

// isNumber takes decimal digits with underscores and an exponent, and hexadecimal and binary ones; dots and the
// signs of exponents are tokens of their own.
func isNumber(s string) bool {
	only := func(s, set string) bool { return s != "" && strings.Trim(s, set) == "" }
	if rest, ok := strings.CutPrefix(s, "0x"); ok {
		mantissa, exponent, _ := strings.Cut(rest, "p")
		return only(mantissa, "0123456789abcdef_") && (exponent == "" || only(exponent, "0123456789"))
	}
	if rest, ok := strings.CutPrefix(s, "0b"); ok {
		return only(rest, "01_")
	}
	mantissa, exponent, _ := strings.Cut(s, "e")
	return only(mantissa, "0123456789_") && (exponent == "" || only(exponent, "0123456789"))
}

func clip(s string) string {
	if len(s) > 40 {
		return s[:40] + "…"
	}
	return s
}

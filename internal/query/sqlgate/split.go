package sqlgate

import "strings"

// Statements cuts a script at its semicolons; those in strings, names and comments are none. What has no token in it, such
// as a comment at the end, is left out. Where the script cannot be read, what follows the last semicolon stays one
// statement, for the gateway to refuse.
func Statements(script string) (statements []string) {
	l := lexer{sql: strings.TrimPrefix(script, "\ufeff")}
	from, empty := 0, true
	end := func(to int) {
		if !empty {
			statements = append(statements, strings.TrimSpace(l.sql[from:to]))
		}
		from, empty = l.at, true
	}
	for l.at < len(l.sql) {
		seen := len(l.tokens)
		if l.next() != nil {
			empty = false
			break
		}
		switch tokens := l.tokens[seen:]; {
		case len(tokens) == 0:
		case tokens[0].isSign(";"):
			end(l.at - 1)
		default:
			empty = false
		}
	}
	end(len(l.sql))
	return statements
}

package promql

import (
	"fmt"

	"github.com/prometheus/prometheus/promql/parser"
)

// Bounds of a query's text. What the parser checks takes the square of how deep an expression is, and format_query the
// cube, in time and in memory; neither can be cancelled, and neither holds one of the tenant's places. A chain of
// operators is as deep as it is long.
const (
	maxNesting   = 100
	maxOperators = 500
)

// checkNesting refuses a query that would take long only to be read. What else is wrong with it the parser says.
func checkNesting(query string) error {
	lexer := parser.Lex(query)
	depth, braces, operators := 0, 0, 0
	for {
		var item parser.Item
		lexer.NextItem(&item)
		switch item.Typ {
		case parser.EOF, parser.ERROR:
			return nil
		case parser.LEFT_PAREN, parser.LEFT_BRACKET:
			depth++
		case parser.RIGHT_PAREN, parser.RIGHT_BRACKET:
			depth--
		case parser.LEFT_BRACE:
			braces++
		case parser.RIGHT_BRACE:
			braces--
		}
		if item.Typ.IsOperator() && braces == 0 { // between braces they are matchers, which nest nothing
			operators++
		}
		switch {
		case depth > maxNesting:
			return fmt.Errorf("query: more than %d brackets within one another, at byte %d: split it, by recording rules for one",
				maxNesting, item.Pos)
		case operators > maxOperators:
			return fmt.Errorf("query: more than %d operators, at byte %d: split it, or match several names with one selector",
				maxOperators, item.Pos)
		}
	}
}

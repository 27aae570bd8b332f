package rules

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Fields are one event's, by name. A field that the event does not have is "" as text and nothing as a number.
type Fields interface {
	Text(name string) string
	// Number is the field's value; ok is false for what is no number.
	Number(name string) (value float64, ok bool)
}

// Match says whether the condition holds. It does not allocate unless f does.
func (e *Expr) Match(f Fields) bool { return e.root.match(f) }

// node is a part of an expression. print adds parentheses where the part binds weaker than its surroundings: 0 for ||,
// 1 for &&, 2 for the operand of !.
type node interface {
	match(f Fields) bool
	print(b *strings.Builder, binding int)
	walk(field func(name string))
}

type or struct{ left, right node }

func (n *or) match(f Fields) bool { return n.left.match(f) || n.right.match(f) }

func (n *or) print(b *strings.Builder, binding int) {
	printPair(b, n.left, " || ", n.right, 0, binding)
}

func (n *or) walk(field func(string)) { n.left.walk(field); n.right.walk(field) }

type and struct{ left, right node }

func (n *and) match(f Fields) bool { return n.left.match(f) && n.right.match(f) }

func (n *and) print(b *strings.Builder, binding int) {
	printPair(b, n.left, " && ", n.right, 1, binding)
}

func (n *and) walk(field func(string)) { n.left.walk(field); n.right.walk(field) }

// printPair keeps left to right: a right operand of the same operator was in parentheses.
func printPair(b *strings.Builder, left node, operator string, right node, own, binding int) {
	if own < binding {
		b.WriteByte('(')
		defer b.WriteByte(')')
	}
	left.print(b, own)
	b.WriteString(operator)
	right.print(b, own+1)
}

type not struct{ operand node }

func (n *not) match(f Fields) bool { return !n.operand.match(f) }

func (n *not) print(b *strings.Builder, _ int) {
	b.WriteByte('!')
	switch n.operand.(type) {
	case *not, *has:
		n.operand.print(b, 2)
	default:
		b.WriteByte('(')
		n.operand.print(b, 0)
		b.WriteByte(')')
	}
}

func (n *not) walk(field func(string)) { n.operand.walk(field) }

type has struct{ field string }

func (n *has) match(f Fields) bool { return f.Text(n.field) != "" }

func (n *has) print(b *strings.Builder, _ int) { b.WriteString("has(" + spell(n.field) + ")") }

func (n *has) walk(field func(string)) { field(n.field) }

type compareText struct {
	field, value string
	negated      bool
}

func (n *compareText) match(f Fields) bool { return (f.Text(n.field) == n.value) != n.negated }

func (n *compareText) print(b *strings.Builder, _ int) {
	operator := " == "
	if n.negated {
		operator = " != "
	}
	b.WriteString(spell(n.field) + operator + strconv.Quote(n.value))
}

func (n *compareText) walk(field func(string)) { field(n.field) }

type compareNumber struct {
	field, operator string
	value           float64
}

func (n *compareNumber) match(f Fields) bool {
	v, ok := f.Number(n.field)
	if !ok {
		return false
	}
	switch n.operator {
	case "==":
		return v == n.value
	case "!=":
		return v != n.value
	case "<":
		return v < n.value
	case "<=":
		return v <= n.value
	case ">":
		return v > n.value
	default:
		return v >= n.value
	}
}

func (n *compareNumber) print(b *strings.Builder, _ int) {
	b.WriteString(spell(n.field) + " " + n.operator + " " + spellNumber(n.value))
}

func (n *compareNumber) walk(field func(string)) { field(n.field) }

type match struct {
	field, pattern string
	re             *regexp.Regexp
	negated        bool
}

func (n *match) match(f Fields) bool { return n.re.MatchString(f.Text(n.field)) != n.negated }

func (n *match) print(b *strings.Builder, _ int) {
	operator := " =~ "
	if n.negated {
		operator = " !~ "
	}
	b.WriteString(spell(n.field) + operator + strconv.Quote(n.pattern))
}

func (n *match) walk(field func(string)) { field(n.field) }

type in struct {
	field   string
	texts   []string
	numbers []float64
}

func (n *in) match(f Fields) bool {
	if n.texts != nil {
		return slices.Contains(n.texts, f.Text(n.field))
	}
	v, ok := f.Number(n.field)
	return ok && slices.Contains(n.numbers, v)
}

func (n *in) print(b *strings.Builder, _ int) {
	list := make([]string, 0, len(n.texts)+len(n.numbers))
	for _, s := range n.texts {
		list = append(list, strconv.Quote(s))
	}
	for _, v := range n.numbers {
		list = append(list, spellNumber(v))
	}
	b.WriteString(spell(n.field) + " in [" + strings.Join(list, ", ") + "]")
}

func (n *in) walk(field func(string)) { field(n.field) }

func spellNumber(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// spell puts a name in backticks where it would be read as something else.
func spell(field string) string {
	plain := field != "" && field != "has" && field != "not" && field != "and" && field != "or" && field != "in"
	for i, r := range field {
		if !(unicode.IsLetter(r) || r == '_' || i > 0 && (unicode.IsDigit(r) || r == '.')) {
			plain = false
		}
	}
	if plain {
		return field
	}
	return "`" + field + "`"
}

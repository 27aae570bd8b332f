package rules_test

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/pkg/rules"
)

// event is Fields over a map; what reads as a number is one.
type event map[string]string

func (e event) Text(name string) string { return e[name] }

func (e event) Number(name string) (float64, bool) {
	v, err := strconv.ParseFloat(e[name], 64)
	return v, err == nil
}

func parse(t testing.TB, text string) *rules.Expr {
	t.Helper()
	e, err := rules.Parse(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return e
}

func TestMatch(t *testing.T) {
	e := event{"kind": "server", "status_code": "503", "route": "/pay/1", "duration_seconds": "0.25", "a.b": "x",
		"empty": "", "with space": "y", "in": "z"}
	f := func(text string, want bool) {
		t.Helper()
		if got := parse(t, text).Match(e); got != want {
			t.Errorf("%s: got %v, want %v", text, got, want)
		}
	}
	f(`kind == "server"`, true)
	f(`kind == 'server'`, true)
	f(`kind != "server"`, false)
	f(`status_code >= 500`, true)
	f(`status_code < 500`, false)
	f(`status_code == 503 and status_code != 504`, true)
	f(`duration_seconds > 200ms`, true)
	f(`duration_seconds <= 2.5e-1`, true)
	f(`duration_seconds >= -1`, true)
	// A regular expression matches the whole value, as in PromQL.
	f(`route =~ "/pay"`, false)
	f(`route =~ "/pay/.*"`, true)
	f(`route !~ "/cart/.*"`, true)
	f(`kind in ["client", "server"]`, true)
	f(`kind in ["client"]`, false)
	f(`status_code in [500, 503]`, true)
	f(`has(a.b) && has(route) && !has(nothing) && !has(empty)`, true)
	f("has(`with space`) and `with space` == \"y\" and `in` == \"z\"", true)
	// A field that is not there is empty text, and no number at all.
	f(`nothing == ""`, true)
	f(`nothing != "x"`, true)
	f(`nothing =~ ".*"`, true)
	f(`nothing < 1`, false)
	f(`nothing != 1`, false)
	f(`kind > 1`, false)
	// && binds closer than ||, ! closer than both.
	f(`kind == "x" && kind == "y" || kind == "server"`, true)
	f(`kind == "server" || kind == "x" && kind == "y"`, true)
	f(`(kind == "server" || kind == "x") && kind == "y"`, false)
	f(`!kind == "server"`, false)
	f(`not (kind == "x" or kind == "y")`, true)
	f("kind == \"server\"\n  && status_code >= 500", true)
}

func TestMistakes(t *testing.T) {
	f := func(text string, line, col int, want string) {
		t.Helper()
		_, err := rules.Parse(text)
		var mistake *rules.ParseError
		if !errors.As(err, &mistake) {
			t.Fatalf("%q: got %v, want a ParseError", text, err)
		}
		if mistake.Line != line || mistake.Col != col || !strings.Contains(mistake.Msg, want) {
			t.Errorf("%q: got %v, want %d:%d and %q", text, err, line, col, want)
		}
	}
	f(``, 1, 1, "the end: want the name of a field")
	f(`kind`, 1, 5, "the end after kind: want ==")
	f(`kind = "server"`, 1, 6, "want == or =~")
	f(`kind == server`, 1, 9, "server: want a string in quotes")
	f(`kind == "server`, 1, 9, "does not end")
	f(`kind == "a\q"`, 1, 9, `a backslash is written \\`)
	f(`kind < "server"`, 1, 8, "< compares numbers")
	f(`status >= 5xx`, 1, 11, "5xx: want a number like 0.5")
	f(`a == 1e999`, 1, 6, "want a number")
	f(`kind == "a" kind == "b"`, 1, 13, "kind: want && or ||")
	f("kind == \"a\" &&\n  (ü == \"b\"", 2, 12, "the end: want )")
	f(`route =~ "("`, 1, 10, "not a regular expression")
	f(`route =~ 5`, 1, 10, "want a regular expression in quotes")
	f(`kind in "a"`, 1, 9, "want a list")
	f(`kind in []`, 1, 10, "want a list of strings")
	f(`kind in ["a", 1]`, 1, 15, "want a list of strings")
	f(`kind in ["a" "b"]`, 1, 14, "want , or ]")
	f(`has("kind")`, 1, 5, "want the name of a field")
	f(`has(kind`, 1, 9, "want )")
	f("`` == 1", 1, 1, "backticks")
	f(`kind == "a" && $`, 1, 16, "want a name")
	f("\xff", 1, 1, "UTF-8")
	f(strings.Repeat("x", rules.MaxText+1), 1, 1, "at most")
	f(strings.Repeat("!", 40)+"a == 1", 1, 33, "nested deeper")
}

func TestFields(t *testing.T) {
	if got := fmt.Sprint(parse(t, `b == 1 && has(a) || !(b in [2]) && c.d =~ "x"`).Fields()); got != "[b a c.d]" {
		t.Errorf("got %s, want [b a c.d]", got)
	}
}

// condition is a random expression with what it means.
type condition struct {
	text string
	says func(event) bool
}

func conditions(depth int) *rapid.Generator[condition] {
	return rapid.Custom(func(t *rapid.T) condition {
		field := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "field")
		if depth > 0 && rapid.Bool().Draw(t, "inner") {
			left, right := conditions(depth-1).Draw(t, "left"), conditions(depth-1).Draw(t, "right")
			switch rapid.IntRange(0, 2).Draw(t, "kind") {
			case 0:
				return condition{"(" + left.text + " && " + right.text + ")",
					func(e event) bool { return left.says(e) && right.says(e) }}
			case 1:
				return condition{"(" + left.text + " or " + right.text + ")",
					func(e event) bool { return left.says(e) || right.says(e) }}
			default:
				return condition{"!(" + left.text + ")", func(e event) bool { return !left.says(e) }}
			}
		}
		value := rapid.SampledFrom([]string{"", "x", "1", "2", "10"}).Draw(t, "value")
		n, _ := strconv.ParseFloat(value, 64)
		number := func(e event, holds func(float64) bool) bool {
			v, err := strconv.ParseFloat(e[field], 64)
			return err == nil && holds(v)
		}
		switch rapid.IntRange(0, 5).Draw(t, "comparison") {
		case 0:
			return condition{field + " == " + strconv.Quote(value), func(e event) bool { return e[field] == value }}
		case 1:
			return condition{field + " !~ " + strconv.Quote(value+".*"),
				func(e event) bool { return !strings.HasPrefix(e[field], value) }}
		case 2:
			return condition{fmt.Sprintf("%s < %v", field, n),
				func(e event) bool { return number(e, func(v float64) bool { return v < n }) }}
		case 3:
			return condition{fmt.Sprintf("%s in [%v, 2]", field, n),
				func(e event) bool { return number(e, func(v float64) bool { return v == n || v == 2 }) }}
		case 4:
			return condition{"has(" + field + ")", func(e event) bool { return e[field] != "" }}
		default:
			return condition{field + " in ['x', " + strconv.Quote(value) + "]",
				func(e event) bool { return e[field] == "x" || e[field] == value }}
		}
	})
}

// An expression means what its parts mean, and so does its canonical form.
func TestMeaning(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := conditions(4).Draw(t, "condition")
		first, err := rules.Parse(c.text)
		if err != nil {
			t.Fatalf("%s: %v", c.text, err)
		}
		again, err := rules.Parse(first.String())
		if err != nil || again.String() != first.String() {
			t.Fatalf("%s: canonical %s: got %v, %v", c.text, first, again, err)
		}
		for range 5 {
			e := event{}
			for _, name := range []string{"a", "b", "c"} {
				e[name] = rapid.SampledFrom([]string{"", "x", "1", "2", "10", "xyz"}).Draw(t, name)
			}
			if got, want := first.Match(e), c.says(e); got != want || again.Match(e) != want {
				t.Fatalf("%s of %v: got %v (canonical %v), want %v", c.text, e, got, again.Match(e), want)
			}
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add(`kind == "server" && (status_code >= 500 || route =~ "/pay.*")`)
	f.Add("`a b` in ['x\\'y', \"\\u00e9\"] or not has(z) and d > 1h2m")
	f.Fuzz(func(t *testing.T, text string) {
		e, err := rules.Parse(text)
		if err != nil {
			var mistake *rules.ParseError
			if !errors.As(err, &mistake) || mistake.Line < 1 || mistake.Col < 1 {
				t.Fatalf("%q: got %v, want a place", text, err)
			}
			return
		}
		e.Match(event{})
		canonical := e.String()
		if len(canonical) > rules.MaxText {
			return
		}
		again, err := rules.Parse(canonical)
		if err != nil || again.String() != canonical {
			t.Fatalf("%q: canonical %q: got %v, %v", text, canonical, again, err)
		}
	})
}

func ExampleParse() {
	e, err := rules.Parse(`kind == "server" and not (status_code in [404, 429])`)
	if err != nil {
		panic(err)
	}
	fmt.Println(e)
	fmt.Println(e.Match(event{"kind": "server", "status_code": "500"}))
	_, err = rules.Parse(`kind = "server"`)
	fmt.Println(err)
	// Output:
	// kind == "server" && !(status_code in [404, 429])
	// true
	// 1:6: =: want == or =~
}

type constant struct{}

func (constant) Text(string) string            { return "server" }
func (constant) Number(string) (float64, bool) { return 503, true }

func BenchmarkMatch(b *testing.B) {
	e := parse(b, `kind == "server" && status_code >= 500 && route !~ "/health|/ready"`)
	b.ReportAllocs()
	for b.Loop() {
		e.Match(constant{})
	}
}

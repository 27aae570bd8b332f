package simulation

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Scenario is what happens in one World, in order.
type Scenario struct {
	Name  string
	Shape Shape
	Steps []Step
}

// Step is one statement. String is the statement as a scenario file has it.
type Step interface {
	fmt.Stringer
	run(w *World) error
}

// ParseError says where a scenario file is wrong.
type ParseError struct {
	File string
	Line int
	Err  error
}

func (e *ParseError) Error() string { return fmt.Sprintf("%s:%d: %v", e.File, e.Line, e.Err) }

// Unwrap returns the cause.
func (e *ParseError) Unwrap() error { return e.Err }

// Parse reads a scenario file: one statement a line, "#" begins a comment, empty lines are nothing. Its error is a
// *ParseError. docs/simulation.md describes the statements.
func Parse(name, text string) (*Scenario, error) {
	s := &Scenario{Name: name, Shape: DefaultShape()}
	number := 0
	for line := range strings.Lines(text) {
		number++
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if err := s.statement(words); err != nil {
			return nil, &ParseError{File: name, Line: number, Err: err}
		}
	}
	return s, nil
}

func (s *Scenario) statement(words []string) error {
	verb := words[0]
	st := &statement{verb: verb, words: words[1:]}
	if set, ok := shapeWords[verb]; ok {
		if len(s.Steps) > 0 {
			return fmt.Errorf("%s: want it before the first statement", verb)
		}
		least := 1
		if slices.Contains([]string{"windows", "rate", "series", "earlier", "behind"}, verb) {
			least = 0
		}
		most := cmp.Or(map[string]int{"interval": 60, "memory": 1024}[verb], 16)
		n := st.number("how many", least, most)
		if st.end(); st.err == nil {
			set(&s.Shape, n)
		}
		return st.err
	}
	parse, ok := verbs[verb]
	if !ok {
		return fmt.Errorf("statement %q: want one of %s", verb, wanted())
	}
	step := parse(st)
	if st.end(); st.err != nil {
		return st.err
	}
	s.Steps = append(s.Steps, step)
	return nil
}

// String is a scenario file that Parse reads back as s.
func (s *Scenario) String() string {
	var b strings.Builder
	for _, line := range []struct {
		verb string
		n    int
	}{
		{"brokers", s.Shape.Brokers}, {"partitions", int(s.Shape.Partitions)}, {"workers", s.Shape.Workers},
		{"sinks", s.Shape.Sinks}, {"windows", s.Shape.Windows}, {"transactions", s.Shape.Transactions},
		{"protocol", s.Shape.Protocol}, {"rate", s.Shape.Rate}, {"series", s.Shape.Series},
		{"results", s.Shape.Results}, {"interval", s.Shape.Interval}, {"memory", s.Shape.Memory}, {"earlier", s.Shape.Earlier},
		{"behind", s.Shape.Behind},
	} {
		fmt.Fprintf(&b, "%s %d\n", line.verb, line.n)
	}
	for _, step := range s.Steps {
		b.WriteString(step.String() + "\n")
	}
	return b.String()
}

var shapeWords = map[string]func(*Shape, int){
	"brokers":      func(s *Shape, n int) { s.Brokers = n },
	"workers":      func(s *Shape, n int) { s.Workers = min(n, 9) },
	"sinks":        func(s *Shape, n int) { s.Sinks = min(n, 9) },
	"windows":      func(s *Shape, n int) { s.Windows = min(n, len(declared[0])) },
	"protocol":     func(s *Shape, n int) { s.Protocol = min(n, 2) },
	"transactions": func(s *Shape, n int) { s.Transactions = min(n, 2) },
	"rate":         func(s *Shape, n int) { s.Rate = n },
	"series":       func(s *Shape, n int) { s.Series = n },
	"partitions":   func(s *Shape, n int) { s.Partitions = int32(n) },
	"results":      func(s *Shape, n int) { s.Results = n },
	"interval":     func(s *Shape, n int) { s.Interval = n },
	"memory":       func(s *Shape, n int) { s.Memory = n },
	"earlier":      func(s *Shape, n int) { s.Earlier = min(n, 1) },
	"behind":       func(s *Shape, n int) { s.Behind = n },
}

package simulation

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// statement is a line being read: words that are taken one after the other, and fields name=value that are taken by
// name. After the first error the rest is read as zero values.
type statement struct {
	verb  string
	words []string
	err   error
}

func (s *statement) fail(format string, args ...any) {
	if s.err == nil {
		s.err = fmt.Errorf(s.verb+": "+format, args...)
	}
}

// word takes the next word that is not a field.
func (s *statement) word(what string) string {
	for i, w := range s.words {
		if !strings.Contains(w, "=") {
			s.words = slices.Delete(slices.Clone(s.words), i, i+1)
			return w
		}
	}
	s.fail("%s is missing", what)
	return ""
}

var plainName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,39}$`)

func (s *statement) name(what string) string {
	w := s.word(what)
	if s.err == nil && !plainName.MatchString(w) {
		s.fail("%s %q: want letters, digits and '_', at most 40, and no digit first", what, w)
	}
	return w
}

func (s *statement) oneOf(what string, allowed ...string) string {
	w := s.word(what)
	if s.err == nil && !slices.Contains(allowed, w) {
		s.fail("%s %q: want one of %s", what, w, strings.Join(allowed, ", "))
	}
	return w
}

func (s *statement) number(what string, least, most int) int {
	return s.toNumber(what, s.word(what), least, most)
}

func (s *statement) toNumber(what, text string, least, most int) int {
	n, err := strconv.Atoi(text)
	if s.err == nil && (err != nil || n < least || n > most) {
		s.fail("%s %q: want a whole number from %d to %d", what, text, least, most)
	}
	return n
}

// dyadic takes a value whose sums are exact in any order.
func (s *statement) dyadic(what string) float64 {
	text := s.word(what)
	v, err := strconv.ParseFloat(text, 64)
	if s.err == nil && (err != nil || math.Abs(v) > 1<<20 || v*1024 != math.Trunc(v*1024)) {
		s.fail("%s %q: want a multiple of 1/1024 up to 1048576, so that sums are exact", what, text)
	}
	return v + 0 // no negative zero
}

func (s *statement) duration(what string) time.Duration {
	return s.toDuration(what, s.word(what), 0, 24*time.Hour)
}

func (s *statement) toDuration(what, text string, least, most time.Duration) time.Duration {
	d, err := time.ParseDuration(text)
	if s.err == nil && (err != nil || d < least || d > most) {
		s.fail("%s %q: want a duration from %s to %s", what, text, least, most)
	}
	return d
}

// field takes name=value; ok is false when there is none.
func (s *statement) field(name string) (value string, ok bool) {
	for i, w := range s.words {
		if key, value, found := strings.Cut(w, "="); found && key == name {
			s.words = slices.Delete(slices.Clone(s.words), i, i+1)
			return value, true
		}
	}
	return "", false
}

func (s *statement) numberField(name string, otherwise, least, most int) int {
	text, ok := s.field(name)
	if !ok {
		return otherwise
	}
	return s.toNumber(name, text, least, most)
}

func (s *statement) durationField(name string, otherwise time.Duration) time.Duration {
	text, ok := s.field(name)
	if !ok {
		return otherwise
	}
	return s.toDuration(name, text, -100*time.Hour, 100*time.Hour)
}

func (s *statement) nameField(name, otherwise string) string {
	text, ok := s.field(name)
	if !ok {
		return otherwise
	}
	if !plainName.MatchString(text) {
		s.fail("%s %q: want letters, digits and '_', at most 40, and no digit first", name, text)
	}
	return text
}

// next takes the next word when it is this one.
func (s *statement) next(word string) bool {
	if len(s.words) > 0 && s.words[0] == word {
		s.words = s.words[1:]
		return true
	}
	return false
}

// process takes "worker 1" or "sink 2".
func (s *statement) process() string {
	role := s.oneOf("process", "worker", "sink")
	return role + " " + strconv.Itoa(s.number("number of the "+role, 1, 9))
}

// request takes the name of a kind of request.
func (s *statement) request() kmsg.Key {
	name := s.word("kind of request")
	for key := range requests {
		if key.Name() == name {
			return key
		}
	}
	s.fail("kind of request %q: want one of %s", name, strings.Join(requestNames(), ", "))
	return 0
}

func (s *statement) end() {
	if len(s.words) > 0 {
		s.fail("%q: not understood here", s.words[0])
	}
}

func requestNames() []string {
	var names []string
	for key := range requests {
		names = append(names, key.Name())
	}
	slices.Sort(names)
	return names
}

// wanted lists the statements there are.
func wanted() string {
	all := slices.Collect(maps.Keys(verbs))
	all = slices.AppendSeq(all, maps.Keys(shapeWords))
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// fields joins what is not its default to a statement.
type fields []string

func add[T comparable](f fields, name string, value, otherwise T) fields {
	if value == otherwise {
		return f
	}
	return append(f, name+"="+fmt.Sprint(value))
}

func (f fields) String() string { return cmp.Or(strings.Join(append(fields{""}, f...), " "), "") }

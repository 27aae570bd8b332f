package config

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write docs/configuration.md anew")

const (
	module    = "github.com/vigie-io/vigie/"
	root      = "../.."
	reference = root + "/docs/configuration.md"
)

const preface = `# Configuration

<!-- Written by ` + "`make docs`" + ` from the Config structs; edit their comments instead. -->

Every key can be set, in the order in which later ones win, by the file that ` + "`-config`" + ` (or ` + "`VIGIE_CONFIG`" + `) names, by the
environment (` + "`kafka.brokers`" + ` is ` + "`VIGIE_KAFKA_BROKERS`" + `) and by a flag (` + "`-kafka.brokers=a:9092,b:9092`" + `). Lists of strings are
separated by commas there; other lists and mappings are written as YAML. All programs read the same configuration and use
their part of it. Unknown keys and wrong values are errors, all of them reported at once, with line and nearest known
key. ` + "`-check-config`" + ` checks and ends; ` + "`-print-config`" + ` prints what holds, secrets masked.

Durations are written like ` + "`250ms`, `30s`, `72h`" + `; sizes like ` + "`64MiB`" + `. Secrets are never printed; prefer the keys ending in
` + "`_file`" + `.
`

// TestReference keeps docs/configuration.md equal to what the structs say.
func TestReference(t *testing.T) {
	var out bytes.Buffer
	out.WriteString(preface)
	cfg := Default()
	describe(t, &out, reflect.ValueOf(cfg), "", newComments(t))
	if *update {
		if err := os.WriteFile(reference, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Bytes(), want) {
		t.Errorf("%s is not what the Config structs say: run `make docs`", reference)
	}
}

// describe writes the keys of a section, then the sections below it.
func describe(t *testing.T, out *bytes.Buffer, section reflect.Value, path string, docs *comments) {
	t.Helper()
	var sections []func()
	table := false
	var walk func(v reflect.Value)
	walk = func(v reflect.Value) {
		for i := range v.NumField() {
			field := v.Type().Field(i)
			name, inline := yamlName(field)
			comment := docs.of(v.Type(), field.Name)
			switch {
			case name == "-":
			case inline:
				walk(v.Field(i))
			case isSection(field.Type):
				below, key := v.Field(i), path+name
				sections = append(sections, func() {
					fmt.Fprintf(out, "\n## `%s`\n%s\n", key, comment)
					describe(t, out, below, key+".", docs)
				})
			default:
				if comment == "" {
					t.Errorf("%s: field %s of %s has no comment", path+name, field.Name, v.Type())
				}
				if !table {
					table = true
					out.WriteString("\n| key | default | |\n|---|---|---|\n")
				}
				fmt.Fprintf(out, "| `%s` |%s | %s |\n", path+name, spell(t, v.Field(i)), cell(comment))
				describeElement(out, field.Type, path+name, docs)
			}
		}
	}
	walk(section)
	for _, write := range sections {
		write()
	}
}

// describeElement writes the fields of what a list or a mapping holds.
func describeElement(out *bytes.Buffer, t reflect.Type, path string, docs *comments) {
	switch {
	case t.Kind() == reflect.Slice && isSection(t.Elem()):
		path += "[]"
	case t.Kind() == reflect.Map && isSection(t.Elem()):
		path += ".<name>"
	default:
		return
	}
	element := t.Elem()
	for i := range element.NumField() {
		name, _ := yamlName(element.Field(i))
		if name == "-" || t.Kind() == reflect.Map {
			continue // a mapping overrides fields that have been described
		}
		fmt.Fprintf(out, "| `%s.%s` | | %s |\n", path, name, cell(docs.of(element, element.Field(i).Name)))
	}
}

func cell(comment string) string { return strings.ReplaceAll(comment, "|", "\\|") }

// spell is a default as a file would say it.
func spell(t *testing.T, v reflect.Value) string {
	t.Helper()
	text, err := yaml.Marshal(v.Interface())
	if err != nil {
		t.Fatal(err)
	}
	s := strings.TrimSpace(string(text))
	switch s {
	case "", `""`, "[]", "{}", "null":
		return ""
	}
	if v.Kind() == reflect.Slice {
		s = strings.ReplaceAll(strings.TrimPrefix(s, "- "), "\n- ", ", ")
	}
	if strings.Contains(s, "\n") {
		t.Fatalf("a default of several lines: %s", s)
	}
	if v.Type() == reflect.TypeFor[time.Duration]() {
		s = strings.Replace(strings.Replace(s, "m0s", "m", 1), "h0m", "h", 1)
	}
	return " `" + s + "`"
}

// comments are the doc comments of struct fields, by package and type.
type comments struct {
	t      *testing.T
	parsed map[string]map[string]string // package path → "Type.Field" → comment
}

func newComments(t *testing.T) *comments {
	return &comments{t: t, parsed: map[string]map[string]string{}}
}

func (c *comments) of(owner reflect.Type, field string) string {
	fields, ok := c.parsed[owner.PkgPath()]
	if !ok {
		fields = c.parse(owner.PkgPath())
		c.parsed[owner.PkgPath()] = fields
	}
	// A comment that begins with the field's Go name as godoc wants it reads better without it in a table of keys.
	text := fields[owner.Name()+"."+field]
	for _, verb := range []string{" is ", " are ", " says ", " bounds ", " holds "} {
		if rest, ok := strings.CutPrefix(text, field+verb); ok {
			if verb == " is " || verb == " are " {
				return strings.ToUpper(rest[:1]) + rest[1:]
			}
			return strings.ToUpper(verb[1:2]) + verb[2:] + rest
		}
	}
	return text
}

func (c *comments) parse(pkg string) map[string]string {
	c.t.Helper()
	dir, ours := strings.CutPrefix(pkg, module)
	if !ours {
		c.t.Fatalf("package %s is not ours", pkg)
	}
	files, err := filepath.Glob(filepath.Join(root, dir, "*.go"))
	if err != nil {
		c.t.Fatal(err)
	}
	fields := map[string]string{}
	for _, file := range files {
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			c.t.Fatal(err)
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			structure, ok := spec.Type.(*ast.StructType)
			if !ok {
				return true
			}
			for _, f := range structure.Fields.List {
				for _, name := range f.Names {
					fields[spec.Name.Name+"."+name.Name] = strings.Join(strings.Fields(f.Doc.Text()), " ")
				}
			}
			return true
		})
	}
	return fields
}

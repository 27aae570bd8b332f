package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// mistakes compares a document with the type it is for: every key that the type does not have, and every value of
// another type, with its line and path.
func mistakes(node *yaml.Node, t reflect.Type, path string) []error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	for node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	switch {
	case node.Kind == yaml.DocumentNode && len(node.Content) > 0:
		return mistakes(node.Content[0], t, path)
	case node.ShortTag() == "!!null":
		return nil
	case node.Kind == yaml.MappingNode && isSection(t):
		return wrongFields(node, t, path)
	case node.Kind == yaml.MappingNode && t.Kind() == reflect.Map:
		var errs []error
		for i := 0; i+1 < len(node.Content); i += 2 {
			errs = append(errs, mistakes(node.Content[i+1], t.Elem(), below(path, node.Content[i].Value))...)
		}
		return errs
	case node.Kind == yaml.SequenceNode && t.Kind() == reflect.Slice:
		var errs []error
		for i, item := range node.Content {
			errs = append(errs, mistakes(item, t.Elem(), below(path, strconv.Itoa(i)))...)
		}
		return errs
	}
	return wrongValue(node, t, path)
}

func below(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func wrongFields(node *yaml.Node, t reflect.Type, path string) []error {
	fields := fieldTypes(t)
	var errs []error
	for i := 0; i+1 < len(node.Content); i += 2 {
		key := node.Content[i]
		fieldType, known := fields[key.Value]
		if !known {
			errs = append(errs, fmt.Errorf("line %d: unknown key %q%s", key.Line, below(path, key.Value),
				suggest(key.Value, fields)))
			continue
		}
		errs = append(errs, mistakes(node.Content[i+1], fieldType, below(path, key.Value))...)
	}
	return errs
}

// wrongValue tries a value alone. The decoder would cut 1.5 to a whole number.
func wrongValue(node *yaml.Node, t reflect.Type, path string) []error {
	err := node.Decode(reflect.New(t).Interface())
	whole := t.Kind() >= reflect.Int && t.Kind() <= reflect.Uint64
	if err == nil && !(whole && node.ShortTag() == "!!float") {
		return nil
	}
	if path == "" {
		return []error{fmt.Errorf("line %d: want keys of docs/configuration.md, each with its value", node.Line)}
	}
	got := "a " + map[yaml.Kind]string{yaml.MappingNode: "mapping", yaml.SequenceNode: "list"}[node.Kind]
	if node.Kind == yaml.ScalarNode {
		got = strconv.Quote(node.Value)
	}
	if t.String() == "units.Secret" {
		got = "what is there"
	}
	return []error{fmt.Errorf("line %d: %s: got %s, want %s", node.Line, path, got, kindName(t))}
}

func fieldTypes(t reflect.Type) map[string]reflect.Type {
	types := map[string]reflect.Type{}
	for i := range t.NumField() {
		name, inline := yamlName(t.Field(i))
		switch {
		case inline:
			for k, v := range fieldTypes(t.Field(i).Type) {
				types[k] = v
			}
		case name != "-":
			types[name] = t.Field(i).Type
		}
	}
	return types
}

// suggest names the nearest known key, or all of them when none is near.
func suggest(got string, fields map[string]reflect.Type) string {
	names := make([]string, 0, len(fields))
	for name := range fields {
		names = append(names, name)
	}
	slices.Sort(names)
	if near := Nearest(got, names); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	return "; known here: " + strings.Join(names, ", ")
}

// Nearest is the name with the fewest edits from got, "" when that is more than a third of its length.
func Nearest(got string, names []string) string {
	best, bestEdits := "", max(2, len(got)/3)+1
	for _, name := range names {
		if edits := distance(got, name); edits < bestEdits {
			best, bestEdits = name, edits
		}
	}
	return best
}

// distance is the Levenshtein distance of a and b in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}

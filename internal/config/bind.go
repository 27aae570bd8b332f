package config

import (
	"encoding"
	"fmt"
	"reflect"
	"strings"
)

// leaf is one configurable value: its dotted path in the file, and where it lives.
type leaf struct {
	path  string // "kafka.session_timeout"
	value reflect.Value
}

// env is the environment variable that overrides the leaf.
func (l leaf) env() string {
	return "VIGIE_" + strings.ToUpper(strings.ReplaceAll(l.path, ".", "_"))
}

var textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()

// leaves lists what can be set below v, a struct, in the order of declaration.
func leaves(v reflect.Value, prefix string) []leaf {
	var out []leaf
	for i := range v.NumField() {
		field := v.Type().Field(i)
		name, inline := yamlName(field)
		switch {
		case name == "-":
		case inline:
			out = append(out, leaves(v.Field(i), prefix)...)
		case isSection(field.Type):
			out = append(out, leaves(v.Field(i), prefix+name+".")...)
		default:
			out = append(out, leaf{path: prefix + name, value: v.Field(i)})
		}
	}
	return out
}

func isSection(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && !reflect.PointerTo(t).Implements(textUnmarshaler)
}

func yamlName(field reflect.StructField) (name string, inline bool) {
	if !field.IsExported() {
		return "-", false
	}
	name, options, _ := strings.Cut(field.Tag.Get("yaml"), ",")
	if strings.Contains(options, "inline") {
		return "", true
	}
	if name == "" {
		name = strings.ToLower(field.Name)
	}
	return name, false
}

// set gives the leaf the value that text spells: text itself for strings and secrets, elements separated by
// commas for lists of strings, YAML for everything else ("30s", "true", "[{tenant: acme}]").
func (l leaf) set(text string) error {
	if u, ok := l.value.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(text))
	}
	switch {
	case l.value.Kind() == reflect.String:
		l.value.SetString(text)
		return nil
	case l.value.Kind() == reflect.Slice && l.value.Type().Elem().Kind() == reflect.String:
		l.setList(text)
		return nil
	}
	fresh := reflect.New(l.value.Type())
	if err := parse([]byte(text), fresh.Interface(), l.path); err != nil {
		if kind := l.value.Kind(); kind == reflect.Slice || kind == reflect.Map {
			return err
		}
		return fmt.Errorf("%q: want %s", text, kindName(l.value.Type()))
	}
	l.value.Set(fresh.Elem())
	return nil
}

func (l leaf) setList(text string) {
	list := reflect.MakeSlice(l.value.Type(), 0, 4)
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			list = reflect.Append(list, reflect.ValueOf(part).Convert(l.value.Type().Elem()))
		}
	}
	l.value.Set(list)
}

// kindName says for people what a value of the type looks like.
func kindName(t reflect.Type) string {
	switch t.String() {
	case "time.Duration":
		return `a duration like "30s"`
	case "units.Bytes":
		return `a size like "64MiB"`
	case "units.Secret":
		return "a secret"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "a whole number"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Slice:
		return "a list"
	case reflect.Map, reflect.Struct:
		return "a mapping"
	default:
		return "text"
	}
}

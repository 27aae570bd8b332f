package config

import (
	"bytes"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// live are the keys, or beginnings of keys, that a running service takes over when its configuration is reloaded.
var live = []string{"tenants.", "auth.keys"}

// fixed are exceptions: the decoders of stream are made with them.
var fixed = map[string]bool{
	"tenants.defaults.max_labels": true, "tenants.defaults.max_label_name": true, "tenants.defaults.max_label_value": true,
}

// Changes compares two configurations: applied are the keys that differ and hold at once after a reload, restart those
// that hold only after a restart. Limits of labels are in both: ingest follows them, stream does not.
func Changes(old, new *Config) (applied, restart []string) {
	before := leaves(reflect.ValueOf(old).Elem(), "")
	after := leaves(reflect.ValueOf(new).Elem(), "")
	for i, l := range before {
		if same(l.value, after[i].value) {
			continue
		}
		isLive := slices.ContainsFunc(live, func(prefix string) bool { return strings.HasPrefix(l.path, prefix) })
		if isLive {
			applied = append(applied, l.path)
		}
		if !isLive || fixed[l.path] {
			restart = append(restart, l.path)
		}
	}
	return applied, restart
}

// same compares values as a file would spell them, secrets as they are.
func same(a, b reflect.Value) bool {
	if a.Kind() == reflect.String {
		return a.String() == b.String()
	}
	left, errLeft := yaml.Marshal(a.Interface())
	right, errRight := yaml.Marshal(b.Interface())
	return errLeft == nil && errRight == nil && bytes.Equal(left, right)
}

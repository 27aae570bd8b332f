package config

import (
	"bytes"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// live are the keys, or beginnings of keys, that a running service takes over when its configuration is reloaded.
var live = []string{"tenants.", "auth.keys", "rules.tenants", "rules.evaluation_interval", "rules.backfill", "rules.resend_delay"}

// Changes compares two configurations: applied are the keys that differ and hold at once after a reload, restart those
// that hold only after a restart.
func Changes(old, new *Config) (applied, restart []string) {
	before := leaves(reflect.ValueOf(old).Elem(), "")
	after := leaves(reflect.ValueOf(new).Elem(), "")
	for i, l := range before {
		if same(l.value, after[i].value) {
			continue
		}
		if slices.ContainsFunc(live, func(prefix string) bool { return strings.HasPrefix(l.path, prefix) }) {
			applied = append(applied, l.path)
		} else {
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

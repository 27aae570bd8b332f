package kafka_test

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/vigie-io/vigie/internal/kafka"
)

// The table of ACLs in docs/operating.md names each topic, group and transactional id that programs use.
func TestACLsAreComplete(t *testing.T) {
	page, err := os.ReadFile("../../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "Where brokers check ACLs")
	table, _, _ = strings.Cut(table, "\n## ")
	named := map[string]bool{}
	for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(table, -1) {
		named[name[1]] = true
	}
	want := func(what, name string) {
		t.Helper()
		if !named[name] {
			t.Errorf("%s %s: the table does not name it", what, name)
		}
	}
	cfg := kafka.DefaultConfig()
	topics := reflect.ValueOf(cfg.Topics)
	for i := range topics.NumField() {
		want("topic", topics.Field(i).Interface().(kafka.Topic).Name)
	}
	want("group", cfg.Group)
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	role := regexp.MustCompile(`([a-zA-Z]+Role) +=\s+"([a-z-]+)"`)
	owner := regexp.MustCompile(`newShardProducer\(ctx, [^,]+, ([a-zA-Z]+Role),`)
	roles, owners := map[string]string{}, map[string]bool{}
	transactional := regexp.MustCompile(`TransactionalID\((?:fmt\.Sprintf\("%s|.*TransactionalIDPrefix\+")(-[^"]+)"`)
	found := 0
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		for _, of := range role.FindAllStringSubmatch(string(text), -1) {
			want("group", cfg.Group+"-"+of[2])
			roles[of[1]] = of[2]
			found++
		}
		for _, of := range owner.FindAllStringSubmatch(string(text), -1) {
			owners[of[1]] = true
		}
		for _, suffix := range transactional.FindAllStringSubmatch(string(text), -1) {
			prefix, _, formatted := strings.Cut(suffix[1], "%")
			if formatted {
				prefix += "*"
			}
			want("transactional id", cfg.TransactionalIDPrefix+prefix)
			found++
		}
	}
	for of := range owners { // each of its shards has a transactional id
		want("transactional id", cfg.TransactionalIDPrefix+"-"+roles[of]+"-*")
		found++
	}
	if found < 9 {
		t.Errorf("found %d roles and transactional ids in this package, want those of two sinks, mergers, alerts, rules, workers and replay: "+
			"has the code another form?", found)
	}
}

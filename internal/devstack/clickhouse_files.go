package devstack

import (
	"bytes"
	_ "embed"
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"text/template"

	"github.com/vigie-io/vigie/internal/units"
)

// Files that StartClickHouse keeps beside the server's own in its data directory.
const (
	configFile  = "config.xml"
	usersFile   = "users.xml"
	initFile    = "init.sql"
	consoleFile = "console.log"
	lockFile    = "devstack.lock"
)

//go:embed users.xml
var defaultUsersXML []byte

//go:embed config.xml.tmpl
var configText string

var configTemplate = template.Must(template.New(configFile).Parse(configText))

// writeEngineFiles writes what the engine reads at its start. The files are private: users.xml holds password hashes.
func writeEngineFiles(dir, host string, memory units.Bytes, users []byte) error {
	if users == nil {
		users = defaultUsersXML
	}
	var config bytes.Buffer
	err := configTemplate.Execute(&config, struct {
		Host, Dir, Users string
		Memory           int64
	}{escapeXML(host), escapeXML(dir), escapeXML(filepath.Join(dir, usersFile)), int64(memory)})
	if err != nil {
		return fmt.Errorf("write ClickHouse configuration: %w", err)
	}
	for name, content := range map[string][]byte{
		configFile: config.Bytes(),
		usersFile:  users,
		initFile:   []byte("SYSTEM START LISTEN TCP;\nSYSTEM START LISTEN HTTP;\n"),
	} {
		if err := writePrivate(filepath.Join(dir, name), content); err != nil {
			return fmt.Errorf("write ClickHouse configuration: %w", err)
		}
	}
	return nil
}

// writePrivate replaces the file at path by one that only its owner can read, also when a readable one was there.
func writePrivate(path string, content []byte) error {
	temporary := path + ".new"
	if err := os.Remove(temporary); err != nil && !os.IsNotExist(err) {
		return err
	}
	if err := os.WriteFile(temporary, content, 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}

func escapeXML(s string) string {
	var out bytes.Buffer
	_ = xml.EscapeText(&out, []byte(s)) // a bytes.Buffer takes every write
	return out.String()
}

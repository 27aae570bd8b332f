package app

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/vigie-io/vigie/internal/auth"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/internal/units"
)

// dataDir is the directory where `vigie dev` keeps everything: the broker's log, ClickHouse's tables, keys.
type dataDir string

// openDataDir creates the directory, readable by its owner alone, and proves that it can be written.
func openDataDir(path string) (dataDir, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("data directory %s: %w", path, err)
	}
	way := "choose another with -data_dir or VIGIE_DATA_DIR"
	if err := os.MkdirAll(absolute, 0o700); err != nil {
		return "", fmt.Errorf("data directory %s cannot be made: %w; %s", absolute, err, way)
	}
	probe, err := os.CreateTemp(absolute, ".probe-*")
	if err != nil {
		return "", fmt.Errorf("data directory %s cannot be written: %w; %s", absolute, err, way)
	}
	_ = probe.Close()
	if err := os.Remove(probe.Name()); err != nil {
		return "", fmt.Errorf("data directory %s: %w", absolute, err)
	}
	return dataDir(absolute), checkSpace(absolute, minimumSpace, way)
}

// minimumSpace keeps a laptop's last gigabyte out of play; `vigie dev` writes some 100 MB an hour.
const minimumSpace = 1 * units.Bytes(1<<30)

func checkSpace(path string, want units.Bytes, way string) error {
	free, err := freeSpace(path)
	if err != nil || free >= want {
		return err
	}
	return fmt.Errorf("data directory %s: only %d MiB are free and %s are needed; make room, or %s", path, free>>20, want, way)
}

func (d dataDir) path(elements ...string) string {
	return filepath.Join(append([]string{string(d)}, elements...)...)
}

// credentials are the passwords of the embedded ClickHouse's users.
type credentials struct {
	Writer string `yaml:"clickhouse_writer"`
	SQL    string `yaml:"clickhouse_sql"`
}

// credentials reads the passwords, or makes them the first time.
func (d dataDir) credentials() (credentials, error) {
	c, err := d.madeCredentials()
	if !errors.Is(err, fs.ErrNotExist) {
		return c, err
	}
	c = credentials{Writer: rand.Text(), SQL: rand.Text()}
	text, err := yaml.Marshal(c)
	if err != nil {
		panic("BUG: credentials do not marshal: " + err.Error())
	}
	return c, writePrivate(d.path("credentials.yaml"), text)
}

// madeCredentials reads the passwords. The error wraps fs.ErrNotExist when none have been made.
func (d dataDir) madeCredentials() (c credentials, err error) {
	path := d.path("credentials.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		return c, fmt.Errorf("read credentials: %w", err)
	}
	if err := yaml.Unmarshal(text, &c); err != nil || c.Writer == "" || c.SQL == "" {
		return c, fmt.Errorf("read credentials %s: not what `vigie dev` wrote; remove the file to make new ones", path)
	}
	return c, nil
}

// writePrivate replaces a file that only its owner may read.
func writePrivate(path string, text []byte) error {
	temporary := path + ".tmp"
	if err := os.WriteFile(temporary, text, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(temporary, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// devKey is an API key of `vigie dev` in plain text: one tenant, reading and writing.
type devKey struct {
	tenant tenants.ID
	plain  string
}

// keys reads keys.env, or makes it the first time, with one key for each tenant. Lines are VIGIE_KEY_<TENANT>=<key>.
func (d dataDir) keys(names ...tenants.ID) ([]devKey, error) {
	path := d.path("keys.env")
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read keys: %w", err)
	}
	known := parseEnv(string(text))
	keys := make([]devKey, 0, len(names))
	var out strings.Builder
	for _, name := range names {
		plain := known[keyVariable(name)]
		if plain == "" {
			plain, _ = auth.NewKey()
		}
		keys = append(keys, devKey{name, plain})
		fmt.Fprintf(&out, "%s=%s\n", keyVariable(name), plain)
	}
	if out.String() == string(text) {
		return keys, nil
	}
	return keys, writePrivate(path, []byte(out.String()))
}

func keyVariable(tenant tenants.ID) string { return "VIGIE_KEY_" + strings.ToUpper(string(tenant)) }

func parseEnv(text string) map[string]string {
	values := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			values[name] = value
		}
	}
	return values
}

// authKeys are the keys as configuration spells them.
func authKeys(keys []devKey) []auth.Key {
	out := make([]auth.Key, 0, len(keys))
	for _, key := range keys {
		out = append(out, auth.Key{
			SHA256: auth.Digest(key.plain), Tenant: key.tenant, Roles: []auth.Role{auth.Write, auth.Read},
			Name: "dev " + string(key.tenant),
		})
	}
	return out
}

func plainKey(keys []devKey, tenant tenants.ID) string {
	i := slices.IndexFunc(keys, func(k devKey) bool { return k.tenant == tenant })
	if i < 0 {
		panic("BUG: no key was made for tenant " + string(tenant))
	}
	return keys[i].plain
}

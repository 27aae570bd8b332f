package auth

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/vigie-io/vigie/internal/tenants"
)

// Role is one thing a key may do. Roles do not imply one another.
type Role string

// The roles there are.
const (
	// Write may send events.
	Write Role = "write"
	// Read may query.
	Read Role = "read"
	// Admin may use operators' endpoints.
	Admin Role = "admin"
)

var roles = []Role{Write, Read, Admin}

// Key is what configuration knows about one API key.
type Key struct {
	// SHA256 is the SHA-256 of the whole key (with its vgk_ prefix), 64 hex digits, as `vigie keys new` prints it.
	SHA256 string `yaml:"sha256"`
	// Tenant is the tenant that requests with this key act for.
	Tenant tenants.ID `yaml:"tenant"`
	// Roles are what the key may do: write, read, admin. At least one.
	Roles []Role `yaml:"roles"`
	// Name says in logs and errors which key it is, for people. Optional.
	Name string `yaml:"name"`
}

// Config says which keys are known.
type Config struct {
	// Keys are the API keys. Default none.
	Keys []Key `yaml:"keys"`
	// KeysFile is a YAML file with further keys, `keys:` as above, read at start and at every reload. Default none.
	KeysFile string `yaml:"keys_file"`
	// LoopbackTenant is the tenant of requests without any credential that come from this machine to a listener
	// bound to a loopback address, with roles write and read. For development. Default none: such requests are refused.
	LoopbackTenant tenants.ID `yaml:"loopback_tenant"`
	// OpenMetrics is whether /metrics of ingest and query answers without a key of role admin, where only operators can
	// reach it: it names tenants and what they do. Default false.
	OpenMetrics bool `yaml:"open_metrics"`
}

// DefaultConfig knows no key: every request is refused.
func DefaultConfig() Config { return Config{} }

// Validate checks the keys written in the configuration itself; it does not read KeysFile.
func (c *Config) Validate() error {
	if c.LoopbackTenant != "" {
		if err := tenants.Validate(c.LoopbackTenant); err != nil {
			return fmt.Errorf("loopback_tenant: %w", err)
		}
	}
	_, err := keySet(c.Keys)
	return err
}

func (k *Key) digest() ([digestSize]byte, error) {
	var digest [digestSize]byte
	if strings.HasPrefix(k.SHA256, KeyPrefix) {
		return digest, errors.New("sha256: got the key itself, which belongs in no file; " +
			"want the 64 hex digits that `vigie keys new` shows with it")
	}
	raw, err := hex.DecodeString(k.SHA256)
	if err != nil || len(raw) != len(digest) {
		return digest, fmt.Errorf("sha256: want %d hex digits (see `vigie keys new`), got %d characters",
			2*len(digest), len(k.SHA256))
	}
	return [digestSize]byte(raw), nil
}

func (k *Key) validate() error {
	if err := tenants.Validate(k.Tenant); err != nil {
		return err
	}
	if len(k.Roles) == 0 {
		return errors.New("roles: want at least one of write, read, admin")
	}
	for _, role := range k.Roles {
		if !slices.Contains(roles, role) {
			return fmt.Errorf("roles: got %q, want write, read or admin", role)
		}
	}
	return nil
}

// keySet indexes keys by digest.
func keySet(keys []Key) (map[[digestSize]byte]Key, error) {
	set := make(map[[digestSize]byte]Key, len(keys))
	for i := range keys {
		key := &keys[i]
		digest, err := key.digest()
		if err == nil {
			err = key.validate()
		}
		if err != nil {
			return nil, fmt.Errorf("keys[%d] %q: %w", i, key.Name, err)
		}
		if other, found := set[digest]; found {
			return nil, fmt.Errorf("keys[%d] %q: same sha256 as key %q; a key has one tenant, merge their roles", i, key.Name, other.Name)
		}
		set[digest] = *key
	}
	return set, nil
}

func readKeysFile(path string) ([]Key, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read keys_file: %w", err)
	}
	var file struct {
		Keys []Key `yaml:"keys"`
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("parse keys_file %s: %w", path, err)
	}
	return file.Keys, nil
}

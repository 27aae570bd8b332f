package clickhouse

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/vigie-io/vigie/internal/units"
)

// Compression of blocks on the wire to the server and of results from it.
const (
	CompressionNone = "none"
	CompressionZstd = "zstd"
)

// Config is ClickHouse's part of the configuration (section "clickhouse").
type Config struct {
	// HTTP addresses (host:port) of one server, or of the replicas of one shard; the next one is asked when one does
	// not answer. Default 127.0.0.1:7123.
	Addrs []string `yaml:"addrs"`
	// Name of the cluster in the servers' remote_servers: tables are then replicated. "" is a single node. More than
	// one address needs it, as only replicated tables know each other's inserts. Default "".
	Cluster string `yaml:"cluster"`
	// User that migrates, inserts and reads. Default vigie.
	User string `yaml:"user"`
	// Password of user. Default "".
	Password units.Secret `yaml:"password"`
	// File that holds the password of user, instead of password. Default "".
	PasswordFile string `yaml:"password_file"`
	// User that the SQL of tenants runs as. Default vigie_sql.
	SQLUser string `yaml:"sql_user"`
	// Password of sql_user. Default "".
	SQLPassword units.Secret `yaml:"sql_password"`
	// File that holds the password of sql_user, instead of sql_password. Default "".
	SQLPasswordFile string `yaml:"sql_password_file"`
	// Longest time of one read for PromQL and one schema statement, on the server and on the wire. Default 30s.
	Timeout time.Duration `yaml:"timeout"`
	// Longest time of one insert. It is tried again under the same token, so what a busy server cannot do in that time
	// it must not be asked for ever: far longer than the slowest insert in the worst hour. Default 10m.
	InsertTimeout time.Duration `yaml:"insert_timeout"`
	// Longest wait for a connection to one address. Default 3s.
	DialTimeout time.Duration `yaml:"dial_timeout"`
	// Most memory on the server of one read for PromQL. Default 2GiB.
	ReadMemory units.Bytes `yaml:"read_memory"`
	// "none" or "zstd": zstd costs about 3 ms a MiB each way and pays on links below 1 Gbit/s. Default none.
	Compression string `yaml:"compression"`
	// Bounds of the SQL of tenants, written into users.xml or the access statements.
	SQL SQLLimits `yaml:"sql"`
	// Encrypted connections.
	TLS TLSConfig `yaml:"tls"`
}

// TLSConfig says how to encrypt connections to ClickHouse.
type TLSConfig struct {
	// Speak HTTPS. Default false.
	Enabled bool `yaml:"enabled"`
	// PEM file of the authorities that sign the servers' certificates; "" takes the system's. Default "".
	CAFile string `yaml:"ca_file"`
	// PEM file of the client certificate, for mutual TLS. Default "".
	CertFile string `yaml:"cert_file"`
	// PEM file of the client certificate's key. Default "".
	KeyFile string `yaml:"key_file"`
	// Name that the server's certificate must have; "" takes the address's. Default "".
	ServerName string `yaml:"server_name"`
}

// DefaultConfig returns the documented defaults.
func DefaultConfig() Config {
	return Config{
		Addrs: []string{"127.0.0.1:7123"}, User: UserService, SQLUser: UserSQL,
		Timeout: 30 * time.Second, InsertTimeout: 10 * time.Minute, DialTimeout: 3 * time.Second, ReadMemory: 2 << 30,
		Compression: CompressionNone,
		SQL:         DefaultSQLLimits(),
	}
}

// Validate says what is wrong, naming the key. It reads no files.
func (c *Config) Validate() error {
	if len(c.Addrs) == 0 {
		return errors.New("clickhouse.addrs: want at least one host:port of the HTTP interface")
	}
	for _, addr := range c.Addrs {
		if _, _, err := net.SplitHostPort(addr); err != nil || strings.Contains(addr, "/") {
			return fmt.Errorf("clickhouse.addrs %q: want host:port of the HTTP interface, without a scheme", addr)
		}
	}
	switch {
	case len(c.Addrs) > 1 && c.Cluster == "":
		return fmt.Errorf("clickhouse.addrs: %d addresses without clickhouse.cluster: "+
			"tables that are not replicated would each hold a part of the data; want one address, or the cluster's name",
			len(c.Addrs))
	case !identifier(c.User):
		return fmt.Errorf("clickhouse.user %q: want letters, digits and _", c.User)
	case !identifier(c.SQLUser):
		return fmt.Errorf("clickhouse.sql_user %q: want letters, digits and _", c.SQLUser)
	case c.User == c.SQLUser:
		return fmt.Errorf("clickhouse.sql_user %q: want another user than clickhouse.user, which sees every tenant", c.SQLUser)
	case c.Password != "" && c.PasswordFile != "":
		return errors.New("clickhouse.password and clickhouse.password_file: want one of them")
	case c.SQLPassword != "" && c.SQLPasswordFile != "":
		return errors.New("clickhouse.sql_password and clickhouse.sql_password_file: want one of them")
	case c.Timeout < time.Second:
		return fmt.Errorf("clickhouse.timeout %s: want at least 1s", c.Timeout)
	case c.InsertTimeout < c.Timeout:
		return fmt.Errorf("clickhouse.insert_timeout %s: want at least clickhouse.timeout (%s)", c.InsertTimeout, c.Timeout)
	case c.DialTimeout < 10*time.Millisecond:
		return fmt.Errorf("clickhouse.dial_timeout %s: want at least 10ms", c.DialTimeout)
	case c.ReadMemory < 16<<20:
		return fmt.Errorf("clickhouse.read_memory %s: want at least 16MiB", c.ReadMemory)
	case c.Compression != CompressionNone && c.Compression != CompressionZstd:
		return fmt.Errorf("clickhouse.compression %q: want none or zstd", c.Compression)
	case (c.TLS.CertFile == "") != (c.TLS.KeyFile == ""):
		return errors.New("clickhouse.tls.cert_file and clickhouse.tls.key_file: want both or neither")
	}
	if err := c.SQL.Validate(); err != nil {
		return fmt.Errorf("clickhouse.%w", err)
	}
	return nil
}

// identifier guards the names that are written into statements.
func identifier(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// passwords are those of user and sql_user, of the configuration or of its files.
func (c *Config) passwords() (service, sql units.Secret, err error) {
	if service, err = secret(c.Password, c.PasswordFile, "clickhouse.password_file"); err != nil {
		return "", "", err
	}
	sql, err = secret(c.SQLPassword, c.SQLPasswordFile, "clickhouse.sql_password_file")
	return service, sql, err
}

// secret is the value, or what the file holds.
func secret(value units.Secret, file, key string) (units.Secret, error) {
	if file == "" {
		return value, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", key, err)
	}
	return units.Secret(strings.TrimRight(string(text), "\r\n")), nil
}

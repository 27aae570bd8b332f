package clickhouse

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"

	_ "embed"

	"github.com/vigie-io/vigie/internal/units"
)

// Names of the users on the server.
const (
	// UserService migrates, inserts and reads for PromQL.
	UserService = "vigie"
	// UserSQL runs the queries of tenants. It may read the views of api only, and those show it the rows of the
	// tenant that TenantHeader names.
	UserSQL = "vigie_sql"
	// UserViewOwner is whom the views of api act as. Nobody can log in as it. The row policies are on it, so they
	// hold for whoever reads a view, and are applied before any condition of the reader.
	UserViewOwner = "vigie_view_owner"
)

// TenantHeader carries the tenant of a query of UserSQL. Only Client sets it.
const TenantHeader = "X-Vigie-Tenant"

// tenantTables are the tables that the views of api read. UserViewOwner may read these and no others, each through a
// row policy.
var tenantTables = []string{
	"rollups_10s", "rollups_1m", "rollups_1h",
	"services_10s", "services_1m", "services_1h",
	"series",
	"label_values",
	"windows",
	"limits",
	"dead_letters",
	"queries",
	"replaced",
}

// SQLLimits bound the queries of UserSQL. Per-query bounds hold for each query, Window bounds for each tenant.
type SQLLimits struct {
	// Longest run time of one query of a tenant. Default 30s.
	MaxTime time.Duration `yaml:"max_time"`
	// Most memory of one query of a tenant; big joins and sorts spill nothing and end with an error. Default 1GiB.
	MaxMemory units.Bytes `yaml:"max_memory"`
	// Most memory of the queries of all tenants together. Default 4GiB.
	MaxMemoryAll units.Bytes `yaml:"max_memory_all"`
	// Most rows that one query may read from tables. Default 500000000.
	MaxRowsRead int64 `yaml:"max_rows_read"`
	// Most rows that one query may return. Default 1000000.
	MaxResultRows int64 `yaml:"max_result_rows"`
	// Most threads of one query. Default 4.
	MaxThreads int `yaml:"max_threads"`
	// Most queries of all tenants at the same time. Default 50.
	MaxQueries int `yaml:"max_queries"`
	// Most queries of one tenant in a minute. Default 1200.
	WindowQueries int64 `yaml:"window_queries"`
	// Most rows that the queries of one tenant may read in a minute. Default 5000000000.
	WindowRows int64 `yaml:"window_rows"`
	// Most seconds that the queries of one tenant may run in a minute, all together. Default 240s.
	WindowTime time.Duration `yaml:"window_time"`
}

// DefaultSQLLimits returns the documented defaults.
func DefaultSQLLimits() SQLLimits {
	return SQLLimits{
		MaxTime: 30 * time.Second, MaxMemory: 1 << 30, MaxMemoryAll: 4 << 30, MaxRowsRead: 500e6, MaxResultRows: 1e6,
		MaxThreads: 4, MaxQueries: 50, WindowQueries: 1200, WindowRows: 5e9, WindowTime: 240 * time.Second,
	}
}

// Validate says what is wrong, naming the key.
func (l *SQLLimits) Validate() error {
	switch {
	case l.MaxTime < time.Second:
		return fmt.Errorf("sql.max_time %s: want at least 1s", l.MaxTime)
	case l.MaxMemory < 16<<20:
		return fmt.Errorf("sql.max_memory %s: want at least 16MiB", l.MaxMemory)
	case l.MaxMemoryAll < l.MaxMemory:
		return fmt.Errorf("sql.max_memory_all %s: want at least sql.max_memory (%s)", l.MaxMemoryAll, l.MaxMemory)
	case l.MaxRowsRead < 1 || l.MaxResultRows < 1 || l.WindowRows < 1:
		return errors.New("sql.max_rows_read, sql.max_result_rows, sql.window_rows: want at least 1")
	case l.MaxThreads < 1 || l.MaxQueries < 1 || l.WindowQueries < 1:
		return errors.New("sql.max_threads, sql.max_queries, sql.window_queries: want at least 1")
	case l.WindowTime < l.MaxTime:
		return fmt.Errorf("sql.window_time %s: want at least sql.max_time (%s)", l.WindowTime, l.MaxTime)
	}
	return nil
}

// Access is who may do what on a server: the passwords of the two users that log in, and the bounds of one of them.
// Passwords are the caller's: random, at least 16 bytes.
type Access struct {
	ServicePassword units.Secret
	SQLPassword     units.Secret
	Limits          SQLLimits
}

// minPassword is the shortest password that Access takes, in bytes.
const minPassword = 16

// Validate says what is wrong.
func (a *Access) Validate() error {
	if len(a.ServicePassword) < minPassword || len(a.SQLPassword) < minPassword {
		return fmt.Errorf("passwords of %s and %s (clickhouse.password and sql_password, or their files): "+
			"want at least %d bytes each", UserService, UserSQL, minPassword)
	}
	if a.ServicePassword == a.SQLPassword {
		return fmt.Errorf("passwords of %s and %s are the same: want two", UserService, UserSQL)
	}
	return a.Limits.Validate()
}

var (
	//go:embed users.xml.tmpl
	usersXML string
	//go:embed access.sql.tmpl
	accessSQL string

	accessWords     = template.FuncMap{"xml": escapeXML}
	usersTemplate   = template.Must(template.New("users.xml").Funcs(accessWords).Parse(usersXML))
	accessTemplate  = template.Must(template.New("access.sql").Funcs(accessWords).Parse(accessSQL))
	tenantCondition = "tenant = getClientHTTPHeader('" + TenantHeader + "')"
)

// UsersXML is the users.xml of a server that Vigie has to itself (the embedded one, which takes users by no other
// way). It holds hashes, not passwords. Beside Vigie's users there is `default`, which the engine starts as: it has one
// session, the engine's own, so nobody else can log in as it.
func UsersXML(a Access) ([]byte, error) {
	var out bytes.Buffer
	if err := a.Validate(); err != nil {
		return nil, fmt.Errorf("write users.xml: %w", err)
	}
	if err := usersTemplate.Execute(&out, a.view()); err != nil {
		return nil, fmt.Errorf("write users.xml: %w", err)
	}
	return out.Bytes(), nil
}

// AccessSQL is the same for a stock server: statements for its administrator, each of which can run twice. cluster is
// the name in remote_servers, "" for a single node. They hold hashes, not passwords. They come after the first
// migration file (a row policy needs its table only when it is read) or before it, as views need their definer.
func AccessSQL(a Access, cluster string) (string, error) {
	if err := a.Validate(); err != nil {
		return "", fmt.Errorf("write access statements: %w", err)
	}
	view := a.view()
	if cluster != "" {
		view.OnCluster = " ON CLUSTER '" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(cluster) + "'"
	}
	var out strings.Builder
	if err := accessTemplate.Execute(&out, view); err != nil {
		return "", fmt.Errorf("write access statements: %w", err)
	}
	return out.String(), nil
}

// Access is who a server of this configuration has to let in. It reads the files of passwords.
func (c *Config) Access() (Access, error) {
	if c.User != UserService || c.SQLUser != UserSQL {
		return Access{}, fmt.Errorf("clickhouse.user %q, sql_user %q: want %s and %s, whom the statements make", c.User,
			c.SQLUser, UserService, UserSQL)
	}
	service, sql, err := c.passwords()
	if err != nil {
		return Access{}, err
	}
	a := Access{ServicePassword: service, SQLPassword: sql, Limits: c.SQL}
	return a, a.Validate()
}

type accessView struct {
	Service, SQL, ViewOwner string
	ServiceHash, SQLHash    string
	Tables                  []string
	Condition               string
	OnCluster               string
	Grants                  []string
	Limits                  SQLLimits
	WindowSecs              int64
	Settings                []profileSetting
}

// profileSetting is a setting of UserSQL. Statements may lower it or, if not Lowered, not touch it.
type profileSetting struct {
	Name    string
	Value   string
	Lowered bool
}

func (l *SQLLimits) profile() []profileSetting {
	out := []profileSetting{
		{Name: "allow_ddl", Value: "0"},
		{Name: "allow_introspection_functions", Value: "0"},
		{Name: "allow_get_client_http_header", Value: "1"}, // the row policies read TenantHeader
		{Name: "use_query_cache", Value: "0"},              // it knows users, not tenants
		{Name: "output_format_schema"},                     // with a value, a file on the server is written
		{Name: "max_memory_usage_for_user", Value: strconv.FormatInt(int64(l.MaxMemoryAll), 10)},
		{Name: "max_concurrent_queries_for_user", Value: strconv.Itoa(l.MaxQueries)},
	}
	settings := l.settings()
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		out = append(out, profileSetting{name, strconv.FormatInt(int64(settings[name]), 10), true})
	}
	return out
}

func (a *Access) view() *accessView {
	return &accessView{
		Service: UserService, SQL: UserSQL, ViewOwner: UserViewOwner,
		ServiceHash: hash(a.ServicePassword), SQLHash: hash(a.SQLPassword),
		Tables: tenantTables, Condition: tenantCondition, Limits: a.Limits,
		Grants: []string{
			"ALL ON vigie.*", "ALL ON api.*", "CREATE FUNCTION, DROP FUNCTION ON *.*", "TABLE ENGINE ON *",
			"SET DEFINER ON " + UserViewOwner, "SELECT ON system.*",
		},
		WindowSecs: int64(a.Limits.WindowTime.Seconds()), Settings: a.Limits.profile(),
	}
}

func hash(password units.Secret) string {
	sum := sha256.Sum256([]byte(password.Reveal()))
	return hex.EncodeToString(sum[:])
}

func escapeXML(s string) (string, error) {
	var out strings.Builder
	err := xml.EscapeText(&out, []byte(s))
	return out.String(), err
}

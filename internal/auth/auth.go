package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/vigie-io/vigie/internal/tenants"
)

// Errors of Tenant, the same values as in package tenants.
var (
	// ErrUnauthenticated is returned without a credential or with an unknown one: HTTP 401, with Challenge as
	// WWW-Authenticate.
	ErrUnauthenticated = tenants.ErrUnauthenticated
	// ErrForbidden is returned when the key is known and lacks the role: HTTP 403.
	ErrForbidden = tenants.ErrForbidden
)

// Challenge is the WWW-Authenticate header of a 401.
const Challenge = `Bearer realm="vigie", Basic realm="vigie", charset="UTF-8"`

// KeyPrefix begins every key, so that people and secret scanners recognise one.
const KeyPrefix = "vgk_"

const digestSize = sha256.Size

// NewKey returns a new random API key and the hex SHA-256 of it that goes into the configuration.
func NewKey() (plain, sha256Hex string) {
	plain = KeyPrefix + rand.Text() + rand.Text()
	return plain, Digest(plain)
}

// Digest returns the hex SHA-256 of a key.
func Digest(plain string) string {
	digest := sha256.Sum256([]byte(plain))
	return hex.EncodeToString(digest[:])
}

// Authenticator maps requests to tenants. Safe for concurrent use.
type Authenticator struct {
	anonymous tenants.ID // Config.LoopbackTenant
	loopback  bool       // the listener is bound to a loopback address
	keys      atomic.Pointer[map[[digestSize]byte]Key]
}

// New returns an authenticator for the requests of one listener; listener is its address (net.Listener.Addr),
// or nil when it is not known, and then Config.LoopbackTenant has no effect. It reads KeysFile.
func New(config Config, listener net.Addr) (*Authenticator, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	a := &Authenticator{anonymous: config.LoopbackTenant, loopback: listener != nil && isLoopback(listener.String())}
	if err := a.Reload(config); err != nil {
		return nil, err
	}
	return a, nil
}

// Reload puts the keys of config and of its KeysFile in the place of those known. After an error these stay in force.
func (a *Authenticator) Reload(config Config) error {
	keys := slices.Clone(config.Keys)
	if config.KeysFile != "" {
		more, err := readKeysFile(config.KeysFile)
		if err != nil {
			return err
		}
		keys = append(keys, more...)
	}
	set, err := keySet(keys)
	if err != nil {
		return err
	}
	a.keys.Store(&set)
	return nil
}

// Tenant returns the tenant that r acts for in the given role. The key is taken from `Authorization: Bearer`
// or from the password of `Authorization: Basic` (the user name does not matter).
func (a *Authenticator) Tenant(r *http.Request, role Role) (tenants.ID, error) {
	if len(r.Header.Values("Authorization")) == 0 {
		return a.loopbackTenant(r, role)
	}
	plain, ok := credential(r)
	if !ok {
		return "", fmt.Errorf("%w: want `Authorization: Bearer %s…`, or the key as basic auth password",
			ErrUnauthenticated, KeyPrefix)
	}
	key, ok := a.lookup(plain)
	if !ok {
		return "", fmt.Errorf("%w: the key is not known", ErrUnauthenticated)
	}
	if !slices.Contains(key.Roles, role) {
		return "", fmt.Errorf("%w: it needs %q, and has %q", ErrForbidden, role, key.Roles)
	}
	return key.Tenant, nil
}

// lookup takes the same time for every unknown key: what is compared is the digest, of which a caller chooses
// no bit, and the map's hash is seeded per process; so the time says nothing about any known key.
func (a *Authenticator) lookup(plain string) (Key, bool) {
	key, ok := (*a.keys.Load())[sha256.Sum256([]byte(plain))]
	return key, ok
}

func credential(r *http.Request) (string, bool) {
	if _, password, ok := r.BasicAuth(); ok {
		return password, password != ""
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	token = strings.TrimSpace(token)
	return token, strings.EqualFold(scheme, "Bearer") && token != ""
}

// loopbackTenant serves requests without a credential in development. A web page in this machine's browser, or
// a proxy on this machine, must not be able to lend it to strangers: the page's origin or rebound host name
// shows in Origin and Host, the proxy in its forwarding headers.
func (a *Authenticator) loopbackTenant(r *http.Request, role Role) (tenants.ID, error) {
	if a.anonymous == "" || role == Admin || !a.fromThisMachine(r) {
		return "", fmt.Errorf("%w: want `Authorization: Bearer %s…`, or the key as basic auth password",
			ErrUnauthenticated, KeyPrefix)
	}
	return a.anonymous, nil
}

func (a *Authenticator) fromThisMachine(r *http.Request) bool {
	return a.loopback && isLoopback(r.RemoteAddr) && isLoopback(r.Host) && !forwarded(r) && sameMachineOrigin(r)
}

// Operator returns nil for whoever may change how the process runs: a key with the role admin, or somebody on this
// machine who talks to a listener bound to a loopback address, straight and not out of a web page.
func (a *Authenticator) Operator(r *http.Request) error {
	if len(r.Header.Values("Authorization")) == 0 && a.fromThisMachine(r) {
		return nil
	}
	_, err := a.Tenant(r, Admin)
	return err
}

var forwardingHeaders = []string{
	"Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port",
	"X-Forwarded-Server", "X-Original-Forwarded-For", "X-Real-Ip", "X-Client-Ip", "True-Client-Ip",
	"Cf-Connecting-Ip", "X-Envoy-External-Address",
}

func forwarded(r *http.Request) bool {
	return slices.ContainsFunc(forwardingHeaders, func(name string) bool { return len(r.Header[name]) > 0 })
}

func sameMachineOrigin(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site == "cross-site" {
		return false
	}
	for _, origin := range r.Header["Origin"] {
		_, host, ok := strings.Cut(origin, "://")
		if !ok || !isLoopback(host) {
			return false
		}
	}
	return true
}

// isLoopback tells whether a host, with or without port, names this machine only.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = strings.TrimSuffix(strings.TrimPrefix(address, "["), "]")
	}
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

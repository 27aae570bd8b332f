package notify

import (
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/vigie-io/vigie/internal/units"
)

// Config says which Alertmanagers alerts are sent to.
type Config struct {
	// URLs are the base addresses of Alertmanagers, each of which gets every alert: list all members of a cluster.
	// Default none: alerts are in their topic only.
	URLs []string `yaml:"urls"`
	// Username is sent with password as basic authentication. Default none.
	Username string `yaml:"username"`
	// Password is that of username. Default none.
	Password units.Secret `yaml:"password"`
	// Token is sent as a bearer token. Default none.
	Token units.Secret `yaml:"token"`
	// Resend is how often an alert that fires is sent again. Default 1m. Alertmanager takes one of which it has not
	// heard for four times as long to be resolved.
	Resend time.Duration `yaml:"resend"`
	// Timeout bounds one request. Default 10s.
	Timeout time.Duration `yaml:"timeout"`
}

// DefaultConfig has no Alertmanager.
func DefaultConfig() Config { return Config{Resend: time.Minute, Timeout: 10 * time.Second} }

// Validate names every field that cannot be.
func (c *Config) Validate() error {
	var errs []error
	for _, text := range c.URLs {
		u, err := url.Parse(text)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" {
			errs = append(errs, fmt.Errorf("urls %q: want http://host:port or https://host:port, with a path if need be", redact(u, text)))
		}
	}
	if c.Username != "" && c.Token != "" {
		errs = append(errs, errors.New("username and token: want one of them"))
	}
	if c.Resend < time.Second {
		errs = append(errs, fmt.Errorf("resend %s: want 1s or more", c.Resend))
	}
	if c.Timeout <= 0 {
		errs = append(errs, fmt.Errorf("timeout %s: want more than 0s", c.Timeout))
	}
	return errors.Join(errs...)
}

// redact is the address without a password.
func redact(u *url.URL, text string) string {
	if u == nil {
		return "***"
	}
	if u.User == nil {
		return text
	}
	return u.Redacted()
}

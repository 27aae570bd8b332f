package ruler

import (
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/vigie-io/vigie/internal/tenants"
)

// Config says which rules are evaluated and how (section "rules").
type Config struct {
	// Tenants are the rule files of each tenant. Default none: nothing is evaluated, and query needs no Kafka.
	Tenants map[tenants.ID]Tenant `yaml:"tenants"`
	// EvaluationInterval is the time between two evaluations of a group that does not say itself. Default 1m; 10s or
	// more.
	EvaluationInterval time.Duration `yaml:"evaluation_interval"`
	// Concurrency is how many tenants may be evaluated at the same time, of each partition of the topic of rule states.
	// The groups of one tenant are evaluated one after the other. Default 8.
	Concurrency int `yaml:"concurrency"`
	// Backfill is how late an evaluation may be and is still made, one after the other, when the stream or this process
	// was down. What is later is skipped, but for the last, and counted. Default 5m; 0 makes only the last.
	Backfill time.Duration `yaml:"backfill"`
	// ResendDelay is how often alerts that fire, or have ended lately, are sent again to the Alertmanager. Default 1m.
	ResendDelay time.Duration `yaml:"resend_delay"`
	// Alertmanagers are the addresses of Alertmanagers elsewhere (http://host:9093). Each is given all alerts, with the
	// tenant in X-Scope-OrgID. Default none: alerts go to upstream's own packages in this process, one Alertmanager a
	// tenant, which is for a single query process.
	Alertmanagers []string `yaml:"alertmanagers"`
	// AlertmanagerDir is where the Alertmanagers of this process keep silences and what was notified. Default
	// alertmanager in data_dir.
	AlertmanagerDir string `yaml:"alertmanager_dir"`
	// ExternalURL is the address people reach this Vigie under, for links in alerts and for templates. Default empty.
	ExternalURL string `yaml:"external_url"`
}

// Tenant are the rules of one tenant.
type Tenant struct {
	// Files are rule files as Prometheus has them, or patterns (rules/*.yml). Changed files are read at a reload.
	Files []string `yaml:"files"`
	// Alertmanager is the tenant's alertmanager.yml, for the Alertmanager in this process. Default none: alerts can be
	// seen and silenced, and nobody is told.
	Alertmanager string `yaml:"alertmanager"`
	// ExternalLabels are added to the alerts of the tenant, and known to templates. Default none.
	ExternalLabels map[string]string `yaml:"external_labels"`
}

// DefaultConfig is the configuration without any setting.
func DefaultConfig() Config {
	return Config{EvaluationInterval: time.Minute, Concurrency: 8, Backfill: 5 * time.Minute, ResendDelay: time.Minute}
}

// Validate says which fields cannot be. It opens no file.
func (c *Config) Validate() error {
	var errs []error
	for id, t := range c.Tenants {
		if err := tenants.Validate(id); err != nil {
			errs = append(errs, fmt.Errorf("tenants: %w", err))
		}
		if len(t.Files) == 0 {
			errs = append(errs, fmt.Errorf("tenants.%s.files: want at least one rule file or pattern", id))
		}
		if t.Alertmanager != "" && len(c.Alertmanagers) > 0 {
			errs = append(errs, fmt.Errorf("tenants.%s.alertmanager: alerts go to alertmanagers, which have their own configuration: "+
				"set one or the other", id))
		}
	}
	if c.EvaluationInterval < window {
		errs = append(errs, fmt.Errorf("evaluation_interval %s: want %s or more", c.EvaluationInterval, window))
	}
	if c.Concurrency < 1 {
		errs = append(errs, fmt.Errorf("concurrency %d: want at least 1", c.Concurrency))
	}
	if c.Backfill < 0 {
		errs = append(errs, fmt.Errorf("backfill %s: want 0 or more", c.Backfill))
	}
	if c.ResendDelay < time.Second {
		errs = append(errs, fmt.Errorf("resend_delay %s: want 1s or more", c.ResendDelay))
	}
	for _, address := range c.Alertmanagers {
		if u, err := url.Parse(address); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			errs = append(errs, fmt.Errorf("alertmanagers %q: want http://host:port", address))
		}
	}
	if _, err := url.Parse(c.ExternalURL); err != nil {
		errs = append(errs, fmt.Errorf("external_url: %w", err))
	}
	return errors.Join(errs...)
}

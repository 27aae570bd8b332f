package app

import (
	"errors"
	"fmt"

	"github.com/vigie-io/vigie/internal/auth"
	"github.com/vigie-io/vigie/internal/config"
)

// CheckFiles reads the files that are part of a configuration, as the services do at their start: further keys, rules,
// and routes of alerts. Files of secrets are not among them: they need not be where a configuration is checked.
func CheckFiles(cfg *config.Config) error {
	var errs []error
	if _, err := auth.New(cfg.Auth, nil); err != nil {
		errs = append(errs, fmt.Errorf("auth: %w", err))
	}
	if _, err := new(ruleRunner).load(cfg); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

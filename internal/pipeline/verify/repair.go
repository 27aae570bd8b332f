package verify

import (
	"context"
	"errors"
	"fmt"
)

// ErrTooMuch means that more blocks are missing than crashes lose.
var ErrTooMuch = errors.New("more is missing than crashes lose")

// Repairer puts what a table lacks where it is missing.
type Repairer interface {
	// Resend inserts a block under its token where the tables are known to remember it: then it lands in those that
	// never had it, and in no other. It does nothing where that is not known.
	Resend(ctx context.Context, missing *Missing) error
	// Repair calls fn with a function that puts the part of a block into the table, and into no other. No other Repair
	// of the table puts anything there between the beginning of fn and the last successful put: once another has begun,
	// put fails. After an error of put it is unknown whether the part is there.
	Repair(ctx context.Context, table Table, fn func(put func(context.Context, *Missing) error) error) error
}

// Repair audits a table and puts back what is missing.
//
// What the first audit finds is only a reason to begin: another repair may be putting it back at the same moment. What
// the second one finds, which begins after every other repair has ended or can do no more, is missing still. Nor is it
// a block that was never inserted (skipped, or refused and parked): that is done first, under its token, so that
// whoever inserts it later does not double what was put past the token.
func Repair(ctx context.Context, cfg AuditConfig, store Store, repairer Repairer) (Audited, error) {
	found, err := Audit(ctx, cfg, store)
	if err != nil || len(found.Missing) == 0 {
		return found, err
	}
	if cfg.Most > 0 && len(found.Missing) > cfg.Most {
		return found, fmt.Errorf("repair %s: parts of %d blocks are missing: %w: "+
			"look why, then run `vigie audit results -repair`", cfg.Table.Name, len(found.Missing), ErrTooMuch)
	}
	for i := range found.Missing {
		if err := repairer.Resend(ctx, &found.Missing[i]); err != nil {
			return found, err
		}
	}
	err = repairer.Repair(ctx, cfg.Table.Table, func(put func(context.Context, *Missing) error) error {
		if found, err = Audit(ctx, cfg, store); err != nil || len(found.Missing) == 0 {
			return err
		}
		for i := range found.Missing {
			if err := put(ctx, &found.Missing[i]); err != nil {
				return err
			}
			found.Repaired++
		}
		return nil
	})
	return found, err
}

//go:build !linux

package devstack

import "errors"

// errNoSandbox says that this machine has no Landlock; the engine then runs without a sandbox.
var errNoSandbox = errors.New("only Linux has Landlock")

func sandboxVersion() int { return 0 }

func seal([]string, string) error { return errNoSandbox }

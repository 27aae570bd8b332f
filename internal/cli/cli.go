// Package cli turns command lines into calls of internal/app: flags, exit codes, tables for people. It holds no
// logic of its own.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/vigie-io/vigie/internal/app"
	"github.com/vigie-io/vigie/internal/config"
)

// Exit codes.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

// Streams are where a command reads and writes.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
	Environ  []string
}

// Standard are the process' own streams and environment.
func Standard() Streams {
	return Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Environ: os.Environ()}
}

// usageError is a mistake in how a command was called.
type usageError string

func (e usageError) Error() string { return string(e) }

// Service runs one service until SIGINT or SIGTERM and returns the exit code.
func Service(name, version string, run app.Runner, args []string, s Streams) int {
	if len(args) == 1 && slices.Contains([]string{"version", "-version", "--version"}, args[0]) {
		fmt.Fprintln(s.Out, name, version)
		return exitOK
	}
	ctx, stop := signalContext()
	defer stop()
	loaded, code, done := load(name, args, s)
	if done {
		return code
	}
	log := loaded.Config.Logger(s.Err).With("service", name)
	if err := run(ctx, loaded.Config,
		app.Process{Name: name, Version: version, Log: log, Reread: reread(name, args, s)}); err != nil {
		return fail(s, name, err)
	}
	return exitOK
}

// reread puts the same configuration together again: the file may have changed.
func reread(name string, args []string, s Streams) func() (config.Config, error) {
	return func() (config.Config, error) {
		loaded, err := config.Load(name, args, s.Environ, io.Discard)
		return loaded.Config, err
	}
}

// signalContext ends at the first SIGINT or SIGTERM; a second one kills the process as usual.
func signalContext() (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// load reads the configuration; done says that the command ends here, with code.
func load(name string, args []string, s Streams) (loaded config.Loaded, code int, done bool) {
	loaded, err := config.Load(name, args, s.Environ, s.Out)
	switch {
	case errors.Is(err, config.ErrHelp):
		return loaded, exitOK, true
	case errors.Is(err, config.ErrNoFlag):
		return loaded, misused(s, name, err), true
	case err != nil:
		fmt.Fprintf(s.Err, "%s: %v\n", name, err)
		return loaded, exitUsage, true
	case loaded.Action == config.Check:
		if err := app.CheckFiles(&loaded.Config); err != nil {
			fmt.Fprintf(s.Err, "%s: %v\n", name, err)
			return loaded, exitUsage, true
		}
		fmt.Fprintln(s.Out, "configuration is valid")
		return loaded, exitOK, true
	case loaded.Action == config.Print:
		_, _ = s.Out.Write(loaded.Config.YAML())
		return loaded, exitOK, true
	}
	return loaded, exitOK, false
}

func fail(s Streams, name string, err error) int {
	if errors.Is(err, context.Canceled) {
		return exitOK
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return misused(s, name, err)
	}
	fmt.Fprintf(s.Err, "%s: %v\n", name, err)
	return exitFailure
}

// misused says what is wrong with how a command was called, and where its flags are listed: all of them here would hide
// it.
func misused(s Streams, name string, err error) int {
	fmt.Fprintf(s.Err, "%s: %v\n`%s -help` says how it is called\n", name, err, name)
	return exitUsage
}

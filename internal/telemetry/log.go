package telemetry

import (
	"fmt"
	"io"
	"log/slog"
)

// LogConfig says how a service logs.
type LogConfig struct {
	// Level is the least severe level that is written: debug, info, warn or error. Default info.
	Level string `yaml:"level"`
	// Format is text (for people, the default) or json (one object a line, for log shippers).
	Format string `yaml:"format"`
}

// DefaultLogConfig is what a service uses unless told otherwise.
func DefaultLogConfig() LogConfig { return LogConfig{Level: "info", Format: "text"} }

// Validate says which value is wrong.
func (c LogConfig) Validate() error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		return fmt.Errorf("log.level %q: want debug, info, warn or error", c.Level)
	}
	if c.Format != "text" && c.Format != "json" {
		return fmt.Errorf("log.format %q: want text or json", c.Format)
	}
	return nil
}

// NewLogger writes to w as c says; c must be valid.
func NewLogger(c LogConfig, w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		panic("BUG: log level was not validated: " + c.Level)
	}
	options := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

package tenants

import "sync/atomic"

// Live holds the limits in force, which may be replaced while they are read. Safe for concurrent use.
type Live struct {
	config atomic.Pointer[Config]
}

// NewLive begins with a valid config. Its maps must not be changed afterwards.
func NewLive(config Config) *Live {
	l := new(Live)
	l.Replace(config)
	return l
}

// For returns the limits of a tenant now.
func (l *Live) For(id ID) Limits { return l.config.Load().For(id) }

// Config returns all limits in force now, another pointer when they have been replaced. It must not be changed.
func (l *Live) Config() *Config { return l.config.Load() }

// Replace puts a valid config in force. Readers see the old limits or the new ones, never some of each.
func (l *Live) Replace(config Config) { l.config.Store(&config) }

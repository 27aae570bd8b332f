// Package tenants names tenants, carries the tenant of a request and holds what each tenant may use.
// It does not authenticate (internal/auth does) and enforces no limit: the packages that meet the load do.
package tenants

import (
	"context"
	"errors"
	"fmt"
)

// ID names a tenant. A valid ID has 1 to 64 bytes of [A-Za-z0-9._-] and does not begin with '.' or '_'
// ('#' separates a shard in Kafka keys, '_' is kept for Vigie's own).
type ID string

// MaxIDLength is the longest valid ID in bytes.
const MaxIDLength = 64

// What a caller's credential amounts to. They live here, below auth, so that every package that answers
// requests can tell them apart without importing the one that authenticates.
var (
	// ErrUnauthenticated is returned when a request has no credential, or one that is not known: HTTP 401.
	ErrUnauthenticated = errors.New("no valid credential")
	// ErrForbidden is returned when the credential is known and may not do this: HTTP 403.
	ErrForbidden = errors.New("the credential does not have the role for this")
)

// Validate tells whether id may name a tenant.
func Validate(id ID) error {
	if id == "" || len(id) > MaxIDLength {
		return fmt.Errorf("tenant %q: want 1 to %d bytes, got %d", clip(string(id)), MaxIDLength, len(id))
	}
	if id[0] == '.' || id[0] == '_' {
		return fmt.Errorf("tenant %q: must not begin with %q", id, id[0])
	}
	for i := range len(id) {
		if !allowed(id[i]) {
			return fmt.Errorf("tenant %q: byte %d is %q, want letters, digits, '.', '_' or '-'", id, i, id[i])
		}
	}
	return nil
}

func allowed(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-'
}

func clip(s string) string {
	if len(s) > MaxIDLength {
		return s[:MaxIDLength] + "…"
	}
	return s
}

type contextKey struct{}

// NewContext returns a context that carries id.
func NewContext(ctx context.Context, id ID) context.Context {
	return context.WithValue(ctx, contextKey{}, id)
}

// FromContext returns the tenant that NewContext put there; false when there is none.
func FromContext(ctx context.Context) (ID, bool) {
	id, ok := ctx.Value(contextKey{}).(ID)
	return id, ok
}

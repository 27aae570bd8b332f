// Package tenants names tenants and carries the tenant of a request. It does not authenticate: internal/auth does.
package tenants

// ID names a tenant. A valid ID has 1 to 64 bytes of [A-Za-z0-9._-] and does not begin with '.' or '_'
// ('#' separates a shard in Kafka keys, '_' is kept for Vigie's own).
type ID string

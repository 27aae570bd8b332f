// Package auth tells which tenant a request acts for, from its API key.
//
// Configuration holds only the SHA-256 of a key, with the tenant and the roles it gives; the key itself is
// shown once, by NewKey. Authenticator is the main type. The tenant never comes from a header that a client
// may write freely. The package limits nothing and audits nothing.
package auth

package pipeline

import (
	"encoding/binary"
	"strings"
)

// claims remember whose records are that have a key, and what meters them. Keys are few and come again and again: to
// find one here costs no hash and no look at the tenant. Forgetting any of it changes no result.
type claims struct {
	places [1 << claimBits]claim
	rates  uint64 // of rates.changes: another one makes meters void
}

// claim is what is known of one key.
type claim struct {
	key    [maxClaimed]byte
	size   uint8 // of key; 0: it is of none
	tenant *tenant
	meter  *meter
}

// maxClaimed is the longest key that is remembered.
const maxClaimed = 31

// claimBits are of places enough for a partition's keys: few take each other's.
const claimBits = 9

// find returns the claim of a key, nil when there is none. It is valid until the next remember.
func (c *claims) find(key []byte) *claim {
	at := c.place(key)
	if string(at.key[:at.size]) != string(key) || at.size == 0 {
		return nil
	}
	return at
}

// remember keeps what is known of a key.
func (c *claims) remember(key []byte, tn *tenant, m *meter) {
	if n := len(key); n > 0 && n <= maxClaimed {
		at := c.place(key)
		at.size, at.tenant, at.meter = uint8(n), tn, m
		copy(at.key[:], key)
	}
}

// claim remembers the meter of a tenant's key, if it is the key that names the tenant.
func (c *claims) claim(key []byte, tn *tenant, m *meter) {
	if tn == nil {
		return
	}
	if rest, named := strings.CutPrefix(view(key), tn.name); named && (rest == "" || rest[0] == '#') {
		c.remember(key, tn, m)
	}
}

// place takes what keys differ in mostly, their last letters.
func (c *claims) place(key []byte) *claim {
	var end [8]byte
	if n := len(key); n >= len(end) {
		end = [8]byte(key[n-len(end):])
	} else {
		copy(end[:], key)
	}
	const mix = 0x9E3779B97F4A7C15 // 2^64 divided by the golden ratio (Knuth, TAOCP 3, 6.4)
	return &c.places[binary.LittleEndian.Uint64(end[:])*mix>>(64-claimBits)]
}

// follow forgets everything when meters have become others.
func (c *claims) follow(rates uint64) {
	if c.rates != rates {
		*c = claims{rates: rates}
	}
}

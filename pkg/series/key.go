package series

import (
	"encoding/binary"
	"errors"

	"github.com/zeebo/xxh3"
)

// ErrKey means that bytes are not the canonical key of any series.
var ErrKey = errors.New("parse series key: not a canonical key")

// AppendKey appends the canonical key of a series to dst: the kind's byte, the metric's name, then the name
// and value of every label, each string behind its length as an unsigned varint. The lengths make the key
// injective: no two different series share one, whatever bytes their strings hold. ls must be Labels as
// Sort makes them.
func AppendKey(dst []byte, kind byte, metric string, ls Labels) []byte {
	dst = append(dst, kind)
	dst = appendString(dst, metric)
	for i := range ls {
		dst = appendString(dst, ls[i].Name)
		dst = appendString(dst, ls[i].Value)
	}
	return dst
}

// ParseKey takes a canonical key apart. It accepts exactly what AppendKey makes of sorted labels and answers
// ErrKey for everything else. The strings are copies: key may be reused.
func ParseKey(key []byte) (kind byte, metric string, ls Labels, err error) {
	if len(key) == 0 {
		return 0, "", nil, ErrKey
	}
	kind, key = key[0], key[1:]
	if metric, key, err = cutString(key); err != nil {
		return 0, "", nil, err
	}
	for len(key) > 0 {
		var label Label
		if label.Name, key, err = cutString(key); err != nil {
			return 0, "", nil, err
		}
		if label.Value, key, err = cutString(key); err != nil {
			return 0, "", nil, err
		}
		if label.Name == "" || label.Value == "" || len(ls) > 0 && ls[len(ls)-1].Name >= label.Name {
			return 0, "", nil, ErrKey
		}
		ls = append(ls, label)
	}
	return kind, metric, ls, nil
}

// Hash returns the ID of a canonical key: its XXH3-128 with seed 0. It is part of the storage format and
// never changes. XXH3 is not cryptographic: a producer may forge two of its own series onto one ID, which
// harms nobody else because storage keys begin with tenant and metric.
func Hash(key []byte) ID {
	h := xxh3.Hash128(key)
	return ID{Hi: h.Hi, Lo: h.Lo}
}

// HashSeeded is another hash of bytes for every seed. It is for tables in memory only.
func HashSeeded(bytes []byte, seed uint64) ID {
	h := xxh3.Hash128Seed(bytes, seed)
	return ID{Hi: h.Hi, Lo: h.Lo}
}

func appendString(dst []byte, s string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

func cutString(key []byte) (s string, rest []byte, err error) {
	n, width := binary.Uvarint(key)
	// A last byte of zero is a longer spelling of the same number: two keys for one series.
	if width <= 0 || width > 1 && key[width-1] == 0 || n > uint64(len(key)-width) {
		return "", nil, ErrKey
	}
	end := width + int(n)
	return string(key[width:end]), key[end:], nil
}

package events

import (
	"encoding/binary"
	"math"
	"math/bits"
	"strconv"
)

// decimal is a JSON number as it was written.
type decimal struct {
	raw   []byte
	mant  uint64
	exp   int // value = ±mant·10^exp, when exact
	neg   bool
	exact bool // all digits are in mant
}

// maxDigits is how many decimal digits always fit a uint64.
const maxDigits = 19

// number reads a number of JSON's grammar at pos.
func (s *scanner) number(n *decimal) bool {
	want := n.read(s.buf[s.pos:])
	s.pos += len(n.raw)
	return want == "" || s.broken(want)
}

// read takes a number of JSON's grammar from the beginning of b. It returns what it wants there instead, if anything,
// and takes nothing then.
func (n *decimal) read(b []byte) (want string) {
	n.raw = nil
	i := 0
	if n.neg = len(b) > 0 && b[0] == '-'; n.neg {
		i++
	}
	first := i
	mant, i := digits(b, i, 0)
	count := i - first
	if count == 0 || count > 1 && b[first] == '0' {
		return "a value"
	}
	exp := 0
	if i < len(b) && b[i] == '.' {
		point := i + 1
		if mant, i = digits(b, point, mant); i == point {
			return "a digit after the decimal point"
		}
		exp = point - i
		count -= exp
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		var e int
		if e, i = exponent(b, i+1); i == 0 {
			return "a digit in the exponent"
		}
		exp += e
	}
	n.raw, n.mant, n.exp, n.exact = b[:i], mant, exp, count <= maxDigits
	return ""
}

// exponent reads the digits behind an e, and a sign before them; next is 0 when there are none.
func exponent(b []byte, i int) (e, next int) {
	neg := i < len(b) && b[i] == '-'
	if neg || i < len(b) && b[i] == '+' {
		i++
	}
	first := i
	for ; i < len(b) && b[i]-'0' <= 9; i++ {
		if e < 10_000 { // beyond every float, and no overflow
			e = e*10 + int(b[i]-'0')
		}
	}
	if i == first {
		return 0, 0
	}
	if neg {
		e = -e
	}
	return e, i
}

// digits reads on in a number of which mant has been read, to the first byte that is no digit. What is above 2^64 is
// lost.
func digits(b []byte, i int, mant uint64) (all uint64, next int) {
	for i+8 <= len(b) {
		w := binary.LittleEndian.Uint64(b[i:]) ^ '0'*ones
		n := digitBytes(w)
		if n < 8 {
			return mant*whole10[n] + eightDigits(w<<(8*(8-n))), i + n
		}
		mant, i = mant*1e8+eightDigits(w), i+8
	}
	for ; i < len(b) && b[i]-'0' <= 9; i++ {
		mant = mant*10 + uint64(b[i]-'0')
	}
	return mant, i
}

// digitBytes is how many of the bytes, from the lowest on, are from 0 to 9.
func digitBytes(w uint64) int {
	// A byte above 9 gets its high bit set by adding 0x76, or had it; a carry out of it is seen in higher bytes only.
	return bits.TrailingZeros64((w+0x76*ones|w)&highs) >> 3
}

// eightDigits is the number whose decimal digits are the bytes of w, the first in the lowest byte: pairs, fours, all
// eight of them (Lemire: Number Parsing at a Gigabyte per Second, 2021, section 3).
func eightDigits(w uint64) uint64 {
	const mask = 0x000000FF000000FF
	w = w*10 + w>>8
	return (w&mask*(100+1_000_000<<32) + w>>16&mask*(1+10_000<<32)) >> 32
}

// whole10 are the powers of ten that fit.
var whole10 = [...]uint64{
	1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19,
}

var pow10 = [...]float64{
	1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
	1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
}

// float is the nearest float64; ok is false beyond the largest.
func (n *decimal) float() (f float64, ok bool) {
	// Two exactly representable numbers and one operation: correctly rounded (Clinger 1990, §4).
	if n.exact && n.mant < 1<<53 && n.exp >= -22 && n.exp <= 22 {
		f = float64(n.mant)
		if n.exp < 0 {
			f /= pow10[-n.exp]
		} else {
			f *= pow10[n.exp]
		}
		if n.neg {
			f = -f
		}
		return f, true
	}
	if n.exact && n.mant != 0 {
		if f, ok = eiselLemire(n.mant, n.exp); ok {
			if n.neg {
				f = -f
			}
			return f, true
		}
	}
	f, err := strconv.ParseFloat(view(n.raw), 64)
	return f, err == nil
}

// scaled is the number times 10^scale as a whole number, rest cut off; ok is false outside int64.
func (n *decimal) scaled(scale int) (v int64, ok bool) {
	if !n.exact {
		f, ok := n.float()
		f *= pow10[scale]
		if !ok || math.Abs(f) >= 1<<63 {
			return 0, false
		}
		return int64(f), true
	}
	mant, e := n.mant, n.exp+scale
	for ; e < 0 && mant != 0; e++ {
		mant /= 10
	}
	if e > 0 && mant != 0 {
		if e >= len(whole10) {
			return 0, false
		}
		var high uint64
		if high, mant = bits.Mul64(mant, whole10[e]); high != 0 {
			return 0, false
		}
	}
	if mant > math.MaxInt64 {
		return 0, false
	}
	if n.neg {
		return -int64(mant), true
	}
	return int64(mant), true
}

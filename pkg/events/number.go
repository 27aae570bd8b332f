package events

import (
	"math"
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
	buf, i := s.buf, s.pos
	n.neg = buf[i] == '-'
	if n.neg {
		i++
	}
	var mant uint64
	first := i
	for d := buf[i] - '0'; d <= 9; d = buf[i] - '0' {
		mant = mant*10 + uint64(d)
		i++
	}
	digits := i - first
	if digits == 0 || digits > 1 && buf[first] == '0' {
		return s.broken("a value")
	}
	exp := 0
	if buf[i] == '.' {
		i++
		point := i
		for d := buf[i] - '0'; d <= 9; d = buf[i] - '0' {
			mant = mant*10 + uint64(d)
			i++
		}
		if exp = point - i; exp == 0 {
			return s.broken("a digit after the decimal point")
		}
		digits -= exp
	}
	if buf[i]|0x20 == 'e' {
		var ok bool
		var e int
		if e, i, ok = s.exponent(i + 1); !ok {
			return false
		}
		exp += e
	}
	n.raw, n.mant, n.exp, n.exact = buf[s.pos:i], mant, exp, digits <= maxDigits
	s.pos = i
	return true
}

func (s *scanner) exponent(i int) (e, next int, ok bool) {
	neg := s.buf[i] == '-'
	if neg || s.buf[i] == '+' {
		i++
	}
	first := i
	for d := s.buf[i] - '0'; d <= 9; d = s.buf[i] - '0' {
		if e < 10_000 { // beyond every float, and no overflow
			e = e*10 + int(d)
		}
		i++
	}
	if i == first {
		return 0, i, s.broken("a digit in the exponent")
	}
	if neg {
		e = -e
	}
	return e, i, true
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
	for ; e > 0 && mant != 0; e-- {
		if mant > math.MaxInt64/10 {
			return 0, false
		}
		mant *= 10
	}
	if mant > math.MaxInt64 {
		return 0, false
	}
	if n.neg {
		return -int64(mant), true
	}
	return int64(mant), true
}

package events

import (
	"math"
	"math/big"
	"math/bits"
)

// lemireMost bounds the decimal exponents that eiselLemire knows.
const lemireMost = 40

// tenths are the highest 128 bits of 10^e, rounded down, e from -lemireMost to lemireMost; the highest bit is set.
var tenths = makeTenths()

func makeTenths() (table [2*lemireMost + 1][2]uint64) {
	for i := range table {
		e := i - lemireMost
		power := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(max(e, -e))), nil)
		if e < 0 {
			power.Quo(new(big.Int).Lsh(big.NewInt(1), 512), power)
		}
		if shift := power.BitLen() - 128; shift >= 0 {
			power.Rsh(power, uint(shift))
		} else {
			power.Lsh(power, uint(-shift))
		}
		low := new(big.Int).And(power, new(big.Int).SetUint64(math.MaxUint64))
		table[i] = [2]uint64{power.Rsh(power, 64).Uint64(), low.Uint64()}
	}
	return table
}

// eiselLemire returns mant·10^exp rounded to the nearest float64; ok is false in the rare cases that it cannot decide,
// and outside of its exponents. mant is not zero.
//
// Lemire: Number Parsing at a Gigabyte per Second, Software: Practice and Experience 51(8) 2021, algorithm 1, without
// its subnormals: 10^-40 is far from them.
func eiselLemire(mant uint64, exp int) (f float64, ok bool) {
	if exp < -lemireMost || exp > lemireMost {
		return 0, false
	}
	power := &tenths[exp+lemireMost]
	zeros := bits.LeadingZeros64(mant)
	mant <<= zeros
	high, low := bits.Mul64(mant, power[0])
	if high&0x1FF == 0x1FF {
		// The lower half of the power may carry into the bits that count.
		carry, rest := bits.Mul64(mant, power[1])
		var c uint64
		if low, c = bits.Add64(low, carry, 0); c != 0 {
			high++
		}
		if low == math.MaxUint64 && high&0x1FF == 0x1FF && rest+mant < mant {
			return 0, false
		}
	}
	top := high >> 63
	mantissa := high >> (top + 9) // 54 bits: one more than fit, to round by
	if low == 0 && high&0x1FF == 0 && mantissa&3 == 1 {
		return 0, false // half way between two floats
	}
	mantissa += mantissa & 1
	mantissa >>= 1
	// 217706/2^16 is log2(10) to the precision that exponents up to ±350 need.
	exponent := uint64(217706*exp>>16+exponentBias+64) - uint64(zeros) - (1 ^ top)
	if mantissa>>53 != 0 {
		mantissa >>= 1
		exponent++
	}
	return math.Float64frombits(exponent<<52 | mantissa&(1<<52-1)), true
}

const exponentBias = 1023

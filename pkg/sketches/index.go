package sketches

import "math"

// edges are the fractions (52 bits) of γ^0, γ^1 … γ^63, each rounded to the nearest float64: the bucket
// borders of one octave. The test derives them again. (Prometheus' table for schema 6 is off by some last bits.)
var edges = [perOctave]uint64{
	0x0000000000000, 0x02c9a3e778061, 0x059b0d3158574, 0x0874518759bc8,
	0x0b5586cf9890f, 0x0e3ec32d3d1a2, 0x11301d0125b51, 0x1429aaea92de0,
	0x172b83c7d517b, 0x1a35beb6fcb75, 0x1d4873168b9aa, 0x2063b88628cd6,
	0x2387a6e756238, 0x26b4565e27cdd, 0x29e9df51fdee1, 0x2d285a6e4030b,
	0x306fe0a31b715, 0x33c08b26416ff, 0x371a7373aa9cb, 0x3a7db34e59ff7,
	0x3dea64c123422, 0x4160a21f72e2a, 0x44e086061892d, 0x486a2b5c13cd0,
	0x4bfdad5362a27, 0x4f9b2769d2ca7, 0x5342b569d4f82, 0x56f4736b527da,
	0x5ab07dd485429, 0x5e76f15ad2148, 0x6247eb03a5585, 0x6623882552225,
	0x6a09e667f3bcd, 0x6dfb23c651a2f, 0x71f75e8ec5f74, 0x75feb564267c9,
	0x7a11473eb0187, 0x7e2f336cf4e62, 0x82589994cce13, 0x868d99b4492ed,
	0x8ace5422aa0db, 0x8f1ae99157736, 0x93737b0cdc5e5, 0x97d829fde4e50,
	0x9c49182a3f090, 0xa0c667b5de565, 0xa5503b23e255d, 0xa9e6b5579fdbf,
	0xae89f995ad3ad, 0xb33a2b84f15fb, 0xb7f76f2fb5e47, 0xbcc1e904bc1d2,
	0xc199bdd85529c, 0xc67f12e57d14b, 0xcb720dcef9069, 0xd072d4a07897c,
	0xd5818dcfba487, 0xda9e603db3285, 0xdfc97337b9b5f, 0xe502ee78b3ff6,
	0xea4afa2a490da, 0xefa1bee615a27, 0xf50765b6e4540, 0xfa7c1819e90d8,
}

// perOctave is the number of buckets between v and 2v.
const perOctave = 1 << Scale

const (
	fractionBits = 52
	fractionMask = 1<<fractionBits - 1
	exponentBias = 1023
	slotShift    = fractionBits - 7
)

// slots cut an octave into 128 equal parts. The narrowest bucket, 1.09 % of the octave's start, is wider than
// a part, so at most one edge lies in a part: index = base, plus one above that edge. A look-up and a
// comparison take 1.6 ns where math.Log2 takes 11.
var slots = makeSlots()

type slot struct {
	edge uint64 // fraction of the edge in this part, all ones when there is none
	base int32
}

func makeSlots() (slots [128]slot) {
	for i := range slots {
		from := uint64(i) << slotShift
		s := slot{edge: fractionMask, base: -1}
		for _, edge := range edges {
			if edge < from {
				s.base++
			} else if edge>>slotShift == uint64(i) {
				s.edge = edge
			}
		}
		slots[i] = s
	}
	return slots
}

// index returns i with γ^i < v ≤ γ^(i+1), where bits are those of v, a positive normal number.
func index(bits uint64) int32 {
	fraction := bits & fractionMask
	s := &slots[fraction>>slotShift&127]
	i := (int32(bits>>fractionBits)-exponentBias)<<Scale + s.base
	if fraction > s.edge {
		i++
	}
	return i
}

// Bound returns γ^i, the exclusive lower bound of bucket i and the inclusive upper bound of bucket i−1, to the
// nearest float64, for |i| < 2^15.
func Bound(i int32) float64 {
	exponent := uint64(i>>Scale + exponentBias)
	return math.Float64frombits(exponent<<fractionBits | edges[i&(perOctave-1)])
}

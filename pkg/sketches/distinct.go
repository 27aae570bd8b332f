package sketches

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"

	"github.com/go-faster/city"
)

// ErrDistinctState means that bytes are not a uniqCombined64 state that this package or ClickHouse could have written.
var ErrDistinctState = errors.New("decode uniqCombined64 state")

const (
	// DistinctPrecision is log2 of the number of registers m, and the parameter that ClickHouse's column type must
	// carry.
	DistinctPrecision = 14
	// DistinctError is the relative standard error of an estimate, 1.04/√m. Two of three estimates are within it, and
	// 997 of 1000 within three times as much.
	DistinctError = 0.008125
	// DistinctExact is how many different items are still counted one by one.
	DistinctExact = 512

	registers    = 1 << DistinctPrecision
	registerBits = 6
	maxRank      = 64 - DistinctPrecision + 1

	rankCounts   = registers * registerBits / 8 // where the registers end and the counts of their ranks begin
	emptyCount   = rankCounts + 4*(maxRank+1)   // where those end and the number of empty registers is said again
	denseBytes   = emptyCount + 2
	smallHashes  = 16
	stateSmall   = 1
	stateMedium  = 2
	stateDense   = 3
	registerMask = 1<<registerBits - 1
)

// Distinct estimates how many different items were added: HyperLogLog of 2^14 registers behind a list that counts the
// first 512 exactly. Its bytes are the state of ClickHouse's uniqCombined64(14) over strings, so that ClickHouse merges
// them at any grouping, also with states that it made of the same strings itself.
//
// The same set of items gives the same state, in whatever order and however often they came, and however states were
// merged: adding again changes nothing. It takes 8 bytes an item up to 512, and then 12,498 bytes whatever comes. The
// zero Distinct is empty and ready; it must not be copied after its first use and is not safe for concurrent use.
//
// Flajolet, Fusy, Gandouet, Meunier: HyperLogLog, AOFA 2007; the estimate is that of Ertl: New cardinality estimation
// algorithms for HyperLogLog sketches, arXiv 1702.01284 (2017), §4, which needs no tables of corrections.
type Distinct struct {
	hashes []uint64 // ascending; of up to DistinctExact items
	dense  []byte   // the state behind its first byte, once there are more: registers, counts of ranks, empty registers
}

// Add counts an item. The hash is CityHash64 of version 1.0.2, as ClickHouse's of strings; it has no secret, so whoever
// chooses the items can make an estimate of them wrong. Amortised O(1) above 512 items, a binary search below.
func (d *Distinct) Add(item []byte) { d.addHash(city.CH64(item)) }

func (d *Distinct) addHash(hash uint64) {
	if d.dense != nil {
		d.raise(int(hash%registers), rankOf(hash))
		return
	}
	at, known := slices.BinarySearch(d.hashes, hash)
	switch {
	case known:
	case len(d.hashes) < DistinctExact:
		d.hashes = slices.Insert(d.hashes, at, hash)
	default:
		d.unpack()
		d.raise(int(hash%registers), rankOf(hash))
	}
}

// Merge adds the items of other. other stays as it is, and may be d itself.
func (d *Distinct) Merge(other *Distinct) {
	if other.dense == nil {
		for _, hash := range other.hashes {
			d.addHash(hash)
		}
		return
	}
	d.unpack()
	var counts [registerMask + 1]uint32
	for at := 0; at < rankCounts; at += 3 { // four registers
		ours, theirs := triple(d.dense[at:]), triple(other.dense[at:])
		both := uint32(0)
		for shift := 0; shift < 24; shift += registerBits {
			rank := max(ours>>shift&registerMask, theirs>>shift&registerMask)
			counts[rank]++
			both |= rank << shift
		}
		d.dense[at], d.dense[at+1], d.dense[at+2] = byte(both), byte(both>>8), byte(both>>16)
	}
	for rank := range maxRank + 1 {
		d.setRanked(rank, counts[rank])
	}
}

func triple(b []byte) uint32 { return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 }

// Reset empties d and keeps the memory of its list.
func (d *Distinct) Reset() { d.hashes, d.dense = d.hashes[:0], nil }

// Estimate is the number of different items: exact up to 512, then with the standard error DistinctError. O(1).
func (d *Distinct) Estimate() float64 {
	if d.dense == nil {
		return float64(len(d.hashes))
	}
	const m = float64(registers)
	sum := m * tau(1-float64(d.ranked(maxRank))/m)
	for rank := maxRank - 1; rank >= 1; rank-- {
		sum = (sum + float64(d.ranked(rank))) / 2
	}
	return m * m / (2 * math.Ln2) / (sum + m*sigma(float64(d.ranked(0))/m))
}

// Bytes is the memory that d holds beside itself.
func (d *Distinct) Bytes() int { return 8*cap(d.hashes) + cap(d.dense) }

// StateBytes is how long the state is that AppendState appends. O(1).
func (d *Distinct) StateBytes() int {
	switch n := len(d.hashes); {
	case d.dense != nil:
		return 1 + denseBytes
	case n < 128: // the length takes a byte
		return 2 + 8*n
	default:
		return 3 + 8*n
	}
}

// AppendState appends the state of ClickHouse's uniqCombined64(14) that holds these items: the bytes of one value of an
// AggregateFunction column in Native and RowBinary, which have no length in front (docs/format/distinct.md).
func (d *Distinct) AppendState(dst []byte) []byte {
	switch n := len(d.hashes); {
	case d.dense != nil:
		return append(append(dst, stateDense), d.dense...)
	case n <= smallHashes:
		dst = append(dst, stateSmall, byte(n))
	default:
		dst = binary.AppendUvarint(append(dst, stateMedium), uint64(n))
	}
	for _, hash := range d.hashes {
		dst = binary.LittleEndian.AppendUint64(dst, hash)
	}
	return dst
}

// DecodeState replaces d by the state at the beginning of src and returns the length of that state. It takes what
// AppendState writes and what ClickHouse makes of it by merging; for anything else it returns an error wrapping
// ErrDistinctState and leaves d empty. src is not retained.
func (d *Distinct) DecodeState(src []byte) (n int, err error) {
	d.Reset()
	if len(src) == 0 {
		return 0, fmt.Errorf("%w: no bytes", ErrDistinctState)
	}
	switch src[0] {
	case stateSmall, stateMedium:
		n, err = d.decodeHashes(src[1:], src[0] == stateSmall)
	case stateDense:
		n, err = d.decodeDense(src[1:])
	default:
		err = fmt.Errorf("got kind %d, want 1 to 3", src[0])
	}
	if err != nil {
		d.Reset()
		return 0, fmt.Errorf("%w: %w", ErrDistinctState, err)
	}
	return 1 + n, nil
}

func (d *Distinct) decodeHashes(src []byte, small bool) (int, error) {
	most := DistinctExact
	if small {
		most = smallHashes
	}
	count, width := binary.Uvarint(src)
	if width <= 0 || count > uint64(most) || len(src) < width+8*int(count) {
		return 0, fmt.Errorf("list: want its length, at most %d, and 8 bytes an item", most)
	}
	for i := range int(count) {
		d.hashes = append(d.hashes, binary.LittleEndian.Uint64(src[width+8*i:]))
	}
	slices.Sort(d.hashes) // ClickHouse keeps them in the order of a hash table
	if len(slices.Compact(d.hashes)) != int(count) {
		return 0, errors.New("list: an item is in it twice")
	}
	return width + 8*int(count), nil
}

func (d *Distinct) decodeDense(src []byte) (int, error) {
	if len(src) < denseBytes {
		return 0, fmt.Errorf("registers: got %d bytes, want %d", len(src), denseBytes)
	}
	d.dense = slices.Clone(src[:denseBytes])
	var counts [registerMask + 1]uint32
	for i := range registers {
		counts[d.register(i)]++
	}
	for rank, count := range counts {
		if rank > maxRank && count > 0 {
			return 0, fmt.Errorf("registers: got one of rank %d, want at most %d", rank, maxRank)
		}
		if rank <= maxRank && d.ranked(rank) != count {
			return 0, fmt.Errorf("registers: %d are of rank %d, but the state counts %d", count, rank, d.ranked(rank))
		}
	}
	if empty := binary.LittleEndian.Uint16(d.dense[emptyCount:]); uint32(empty) != counts[0] {
		return 0, fmt.Errorf("registers: %d are empty, but the state says %d", counts[0], empty)
	}
	return denseBytes, nil
}

// unpack goes from the list to registers.
func (d *Distinct) unpack() {
	if d.dense != nil {
		return
	}
	d.dense = make([]byte, denseBytes)
	d.setRanked(0, registers)
	for _, hash := range d.hashes {
		d.raise(int(hash%registers), rankOf(hash))
	}
	d.hashes = nil
}

// raise gives a register a rank unless it has a greater one. A register lies in one byte or two; the counts behind the
// last one make reading two safe.
func (d *Distinct) raise(i int, rank uint8) {
	before := d.register(i)
	if rank <= before {
		return
	}
	at, shift := d.dense[i*registerBits/8:], i*registerBits%8
	pair := binary.LittleEndian.Uint16(at)
	binary.LittleEndian.PutUint16(at, pair+uint16(rank-before)<<shift)
	d.setRanked(int(before), d.ranked(int(before))-1)
	d.setRanked(int(rank), d.ranked(int(rank))+1)
}

func (d *Distinct) register(i int) uint8 {
	return uint8(binary.LittleEndian.Uint16(d.dense[i*registerBits/8:])>>(i*registerBits%8)) & registerMask
}

func (d *Distinct) setRanked(rank int, n uint32) {
	binary.LittleEndian.PutUint32(d.dense[rankCounts+4*rank:], n)
	if rank == 0 {
		binary.LittleEndian.PutUint16(d.dense[emptyCount:], uint16(n))
	}
}

// ranked is the number of registers with that rank.
func (d *Distinct) ranked(rank int) uint32 {
	return binary.LittleEndian.Uint32(d.dense[rankCounts+4*rank:])
}

// rankOf is the position of the lowest set bit, from 1, of a hash without the bits that choose the register.
func rankOf(hash uint64) uint8 {
	return uint8(min(bits.TrailingZeros64(hash>>DistinctPrecision), maxRank-1)) + 1
}

// sigma and tau are the contributions of empty and of full registers (Ertl, §4.3).
func sigma(x float64) float64 {
	if x == 1 {
		return math.Inf(1)
	}
	sum, weight := x, 1.0
	for before := -1.0; sum != before; weight *= 2 {
		x *= x
		before, sum = sum, sum+x*weight
	}
	return sum
}

func tau(x float64) float64 {
	if x == 0 || x == 1 {
		return 0
	}
	sum, weight := 1-x, 1.0
	for before := -1.0; sum != before; {
		x = math.Sqrt(x)
		weight /= 2
		before, sum = sum, sum-(1-x)*(1-x)*weight
	}
	return sum / 3
}

package events

import (
	"encoding/binary"
	"math"
)

// Unix times are told apart by size: a number of seconds below secondsBelow lies before the year 5138, and
// taken as milliseconds it would lie before 1973.
const (
	secondsBelow = 1e11
	millisBelow  = 1e14
	microsBelow  = 1e17
)

// lastSecond is the second in which int64 nanoseconds end: 2262-04-11T23:47:16Z.
const lastSecond = math.MaxInt64 / 1_000_000_000

// unixTime turns a Unix time in seconds (also fractions), milliseconds, microseconds or nanoseconds into
// nanoseconds. The reason is "" when it could.
func unixTime(n *decimal) (ns int64, reason Reason) {
	f, ok := n.float()
	if n.neg && n.mant != 0 {
		return 0, ReasonTooOld
	}
	if ns, fits := n.scaled(unitDigits(f)); ok && fits {
		return ns, ""
	}
	return 0, ReasonTooNew
}

// unitDigits says of which unit a Unix time is, as the power of ten that makes it nanoseconds.
func unitDigits(f float64) int {
	switch {
	case f < secondsBelow:
		return 9
	case f < millisBelow:
		return 6
	case f < microsBelow:
		return 3
	}
	return 0
}

// wholeTime is unixTime of a whole number.
func wholeTime(v int64) (ns int64, reason Reason) {
	if v < 0 {
		return 0, ReasonTooOld
	}
	digits := unitDigits(float64(v))
	if digits == 0 {
		return v, "" // mostly; to divide takes as long as all else here
	}
	unit := int64(whole10[digits])
	if v > math.MaxInt64/unit {
		return 0, ReasonTooNew
	}
	return v * unit, ""
}

// minute remembers the last minute read: a record's events mostly share it.
type minute struct {
	text    [minuteLen]byte
	seconds int64 // since 1970, UTC
}

const minuteLen = len("2026-11-23T10:00")

// rfc3339 reads 2026-11-23T10:00:00.123456789Z, or with an offset. Digits past nanoseconds are cut off;
// a leap second is the first of the next minute.
func (m *minute) rfc3339(b []byte) (ns int64, reason Reason) {
	const secondsLen = minuteLen + len(":00")
	if len(b) <= secondsLen {
		return 0, ReasonBadTime
	}
	if [minuteLen]byte(b) != m.text || b[0] == 0 { // of zeros is the memory of nothing yet
		seconds, ok := dateMinute(b)
		if !ok {
			return 0, ReasonBadTime
		}
		m.text, m.seconds = [minuteLen]byte(b), seconds
	}
	tens, units := b[minuteLen+1]-'0', b[minuteLen+2]-'0'
	second := int64(tens)*10 + int64(units)
	nanos, rest, ok := fraction(b[secondsLen:])
	if b[minuteLen] != ':' || tens > 9 || units > 9 || second > 60 || !ok {
		return 0, ReasonBadTime
	}
	offset, ok := zone(rest)
	if !ok {
		return 0, ReasonBadTime
	}
	seconds := m.seconds + second - offset
	switch {
	case seconds < 0:
		return 0, ReasonTooOld
	case seconds > lastSecond, seconds == lastSecond && nanos > math.MaxInt64%1_000_000_000:
		return 0, ReasonTooNew
	}
	return seconds*1_000_000_000 + nanos, ""
}

// quick reads what rfc3339 reads, for the most usual: a time in UTC, in the last minute read, of at most nine digits
// behind the point, and the quote behind it, which size does not count. size is 0 for all others.
func (m *minute) quick(b []byte) (ns int64, size int) {
	const secondsLen = minuteLen + len(":00")
	if len(b) < secondsLen+len(`.123456789Z"`) || [minuteLen]byte(b) != m.text || b[0] == 0 {
		return 0, 0
	}
	tens, units := b[minuteLen+1]-'0', b[minuteLen+2]-'0'
	if b[minuteLen] != ':' || tens > 5 || units > 9 {
		return 0, 0
	}
	var nanos uint64
	i := secondsLen
	if b[i] == '.' {
		w := binary.LittleEndian.Uint64(b[i+1:]) ^ '0'*ones
		n := digitBytes(w)
		nanos = eightDigits(w&(1<<(8*n)-1)) * 10
		i += 1 + n
		if last := b[i] - '0'; n == 8 && last <= 9 {
			nanos += uint64(last)
			i++
		}
		if n == 0 {
			return 0, 0
		}
	}
	seconds := m.seconds + int64(tens)*10 + int64(units)
	if b[i] != 'Z' || b[i+1] != '"' || seconds < 0 || seconds >= lastSecond {
		return 0, 0
	}
	return seconds*1_000_000_000 + int64(nanos), i + 1
}

// dateMinute reads 2026-11-23T10:00 as seconds since 1970.
func dateMinute(b []byte) (seconds int64, ok bool) {
	const shape = "0000-00-00T00:00"
	for i := range len(shape) {
		c := b[i]
		switch shape[i] {
		case '0':
			ok = c-'0' <= 9
		case 'T':
			ok = c == 'T' || c == 't' || c == ' '
		default:
			ok = c == shape[i]
		}
		if !ok {
			return 0, false
		}
	}
	year, month, day := two(b)*100+two(b[2:]), two(b[5:]), two(b[8:])
	hour, minute := two(b[11:]), two(b[14:])
	if month < 1 || month > 12 || day < 1 || day > daysIn(year, month) || hour > 23 || minute > 59 {
		return 0, false
	}
	return daysSinceEpoch(year, month, day)*86_400 + int64(hour*3600+minute*60), true
}

func two(b []byte) int { return int(b[0]-'0')*10 + int(b[1]-'0') }

func fraction(b []byte) (nanos int64, rest []byte, ok bool) {
	if len(b) == 0 || b[0] != '.' {
		return 0, b, true
	}
	i, unit := 1, int64(100_000_000)
	for ; i < len(b) && b[i]-'0' <= 9; i++ {
		nanos += int64(b[i]-'0') * unit
		unit /= 10
	}
	return nanos, b[i:], i > 1
}

func zone(b []byte) (seconds int64, ok bool) {
	if len(b) == 1 && (b[0] == 'Z' || b[0] == 'z') {
		return 0, true
	}
	if len(b) != 6 || b[0] != '+' && b[0] != '-' || b[3] != ':' {
		return 0, false
	}
	for _, i := range [...]int{1, 2, 4, 5} {
		if b[i]-'0' > 9 {
			return 0, false
		}
	}
	hours, minutes := two(b[1:]), two(b[4:])
	if hours > 23 || minutes > 59 {
		return 0, false
	}
	seconds = int64(hours*3600 + minutes*60)
	if b[0] == '-' {
		seconds = -seconds
	}
	return seconds, true
}

func daysIn(year, month int) int {
	switch month {
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}

// daysSinceEpoch counts days from 1970-01-01 in the proleptic Gregorian calendar. Years begin in March, so
// that the leap day is the last of its year.
func daysSinceEpoch(year, month, day int) int64 {
	if month <= 2 {
		year, month = year-1, month+12
	}
	// 153 days in five months from March; 306 days from March to the end of December.
	days := 365*year + year/4 - year/100 + year/400 + (153*(month-3)+2)/5 + day - 1
	return int64(days) - 719_468
}

// unitNanos is how many nanoseconds 10^scale times factor of a unit are: 0 for an unknown unit.
func unitNanos(unit []byte) (scale int, factor int64) {
	switch string(unit) {
	case "ns":
		return 0, 1
	case "us", "µs", "μs":
		return 3, 1
	case "ms":
		return 6, 1
	case "s":
		return 9, 1
	case "m":
		return 9, 60
	case "h":
		return 9, 3600
	}
	return 0, 0
}

// duration is n units in nanoseconds; ok is false outside int64.
func duration(n *decimal, unit []byte) (ns int64, ok bool) {
	scale, factor := unitNanos(unit)
	if factor == 0 {
		return 0, false
	}
	ns, ok = n.scaled(scale)
	if !ok || ns > math.MaxInt64/factor || ns < math.MinInt64/factor {
		return 0, false
	}
	return ns * factor, true
}

package pipeline

import (
	"fmt"
	"strconv"
	"time"
)

// outbox makes the messages of an epoch of what its tasks leave. Blocks of rollups and series are encoded as soon as
// they are full, while tasks drain, so that few rows are in memory at a time; messages are made of them when all tasks
// have drained.
type outbox struct {
	cfg       *Config
	encoder   Encoder
	partition int32  // of the results
	table     string // that the epoch's rollups are for

	messages []Message
	series   []encodedBlock
	rollups  []encodedBlock
	failed   error    // why one of these could not be encoded
	buffers  [][]byte // of encoded blocks, used again
	used     int      // of buffers
}

// encodedBlock is a block of series or rollups as it is sent.
type encodedBlock struct {
	value []byte
	rows  int
	count uint64 // of rollups
}

// reset begins an epoch, whose rollups are for table, with the buffers of the last one. Of many more than it used, some go to
// the collector.
func (b *outbox) reset(table string) {
	b.table = table
	b.series, b.rollups, b.failed = b.series[:0], b.rollups[:0], nil
	keep := max(b.used, len(b.buffers)/2)
	clear(b.buffers[keep:])
	b.buffers, b.used = b.buffers[:keep], 0
}

// letGo leaves the buffers to the client, which may still hold what it did not send.
func (b *outbox) letGo() { b.buffers, b.used = nil, 0 }

// addRollups encodes a block of the epoch.
func (b *outbox) addRollups(rows *Rollups) {
	n := len(rows.Grain)
	value, err := b.encode(b.table, n, func(dst []byte) ([]byte, error) { return b.encoder.EncodeRollups(dst, rows) })
	if b.failed == nil {
		b.failed = err
	}
	b.rollups = append(b.rollups, encodedBlock{value, n, rows.count()})
}

// addSeries is that of announcements.
func (b *outbox) addSeries(rows *SeriesRows) {
	n := len(rows.Tenant)
	value, err := b.encode(TableSeries, n, func(dst []byte) ([]byte, error) { return b.encoder.EncodeSeries(dst, rows) })
	if b.failed == nil {
		b.failed = err
	}
	b.series = append(b.series, encodedBlock{value: value, rows: n})
}

// fill makes the messages of the epoch, in the order in which readers have to see them: series before their rows,
// progress after what it speaks of. newest is the epoch's newest event time, Unix nanoseconds.
func (b *outbox) fill(out *Outputs, progress *ProgressRows, newest int64) error {
	b.messages = append(append(append(b.messages[:0], out.Letters...), out.State...), out.Alerts...)
	for _, rows := range out.Series {
		b.addSeries(rows)
	}
	for _, rows := range out.Rollups {
		b.addRollups(rows)
	}
	if b.failed != nil {
		return b.failed
	}
	for i := range b.series {
		b.send(TableSeries, b.series[i].rows, b.series[i].value)
	}
	at := Header{HeaderNewest, strconv.AppendInt(nil, newest/int64(time.Millisecond), 10)}
	for i := range b.rollups {
		block := &b.rollups[i]
		b.send(b.table, block.rows, block.value, Header{HeaderCount, strconv.AppendUint(nil, block.count, 10)}, at)
	}
	for _, rows := range out.Windows.Blocks {
		err := b.add(TableWindows, len(rows.Tenant), func(dst []byte) ([]byte, error) {
			return b.encoder.EncodeWindows(dst, rows)
		})
		if err != nil {
			return err
		}
	}
	err := out.Limits.blocks(b.cfg, func(rows *LimitRows) error {
		return b.add(TableLimits, len(rows.Tenant), func(dst []byte) ([]byte, error) {
			return b.encoder.EncodeLimits(dst, rows)
		})
	})
	if err != nil {
		return err
	}
	err = parts(b.cfg, len(out.LetterRows), letterRowBytes(b.cfg), func(from, to int) error {
		rows := out.LetterRows[from:to]
		return b.add(TableLetters, len(rows), func(dst []byte) ([]byte, error) {
			return b.encoder.EncodeLetters(dst, rows)
		})
	})
	if err != nil {
		return err
	}
	return progress.blocks(b.cfg, func(rows *ProgressRows) error {
		return b.add(TableProgress, len(rows.Topic), func(dst []byte) ([]byte, error) {
			return b.encoder.EncodeProgress(dst, rows)
		})
	})
}

// add encodes a block and sends it.
func (b *outbox) add(table string, rows int, encode func(dst []byte) ([]byte, error)) error {
	value, err := b.encode(table, rows, encode)
	if err == nil {
		b.send(table, rows, value)
	}
	return err
}

// encode encodes a block into the next buffer.
func (b *outbox) encode(table string, rows int, encode func(dst []byte) ([]byte, error)) ([]byte, error) {
	if b.used == len(b.buffers) {
		b.buffers = append(b.buffers, nil)
	}
	value, err := encode(b.buffers[b.used][:0])
	if err != nil {
		return nil, fmt.Errorf("encode block of %d rows for %s: %w", rows, table, err)
	}
	b.buffers[b.used] = value
	b.used++
	return value, nil
}

// send adds the message of a block.
func (b *outbox) send(table string, rows int, value []byte, extra ...Header) {
	headers := append([]Header{
		{HeaderTable, []byte(table)}, {HeaderFormat, []byte(FormatNative)}, {HeaderRows, strconv.AppendInt(nil, int64(rows), 10)},
	}, extra...)
	b.messages = append(b.messages, Message{Topic: b.cfg.ResultsTopic, Partition: b.partition, Value: value, Headers: headers})
}

// count counts the blocks of an epoch that has been committed, and says how many rows of series, rollups and windows
// it has.
func (b *outbox) count(m *Metrics, out *Outputs, progress *ProgressRows) (rows int) {
	for _, block := range b.series {
		m.block(TableSeries, block.rows)
		rows += block.rows
	}
	for _, block := range b.rollups {
		m.block(b.table, block.rows)
		rows += block.rows
	}
	for _, block := range out.Windows.Blocks {
		m.block(TableWindows, len(block.Tenant))
	}
	for _, table := range []struct {
		name string
		rows int
	}{
		{TableLimits, len(out.Limits.Tenant)}, {TableLetters, len(out.LetterRows)}, {TableProgress, len(progress.Topic)},
	} {
		if table.rows > 0 {
			m.block(table.name, table.rows)
		}
	}
	return rows + out.windowRows()
}

// count is the sum of Count over series rows.
func (r *Rollups) count() (sum uint64) {
	for i, grain := range r.Grain {
		if grain == GrainSeries {
			sum += r.Count[i]
		}
	}
	return sum
}

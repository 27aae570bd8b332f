package backfill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/parquet-go/parquet-go"
	pqformat "github.com/parquet-go/parquet-go/format"

	"github.com/vigie-io/vigie/pkg/events"
)

// parquet cuts a file at its row groups and after every chunkRows rows of one.
func (j *Job) parquet(ctx context.Context, f *file, want func(int64) bool, yield func(*chunk) bool) error {
	opened, err := openParquet(ctx, f)
	if err != nil {
		return err
	}
	defer opened.close()
	leaves, ignored, err := j.leaves(opened.Schema())
	if err != nil {
		return fmt.Errorf("load %s: %w", f.path, err)
	}
	if len(ignored) > 0 {
		j.note("%s: columns that are no field of an event are left alone: %s", f.path, strings.Join(ignored, ", "))
	}
	index, first := int64(0), int64(1)
	for group, rows := range opened.RowGroups() {
		for from := int64(0); from < rows.NumRows(); from += chunkRows {
			n := min(chunkRows, rows.NumRows()-from)
			at := first + from
			if want(index) && !yield(&chunk{index, at, at + n - 1, func(s *stepper) error {
				return j.parquetRows(ctx, s, f, leaves, group, from, n, at)
			}}) {
				return nil
			}
			f.read.Add(int64(float64(f.size) * float64(n) / float64(opened.NumRows())))
			index++
		}
		first += rows.NumRows()
	}
	return nil
}

// parquetReadSize is how much of a column is read at once.
const parquetReadSize = 1 << 20

type parquetFile struct {
	*parquet.File
	close func()
}

func openParquet(ctx context.Context, f *file) (*parquetFile, error) {
	in, err := f.from.open(ctx)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", f.path, err)
	}
	opened, err := parquet.OpenFile(in, f.size, parquet.SkipBloomFilters(true), parquet.ReadBufferSize(parquetReadSize))
	if err != nil {
		_ = in.Close()
		return nil, fmt.Errorf("read %s as Parquet: %w", f.path, err)
	}
	return &parquetFile{opened, func() { _ = in.Close() }}, nil
}

// leaves says what each leaf column is, by name, and refuses those of a type that their field cannot have.
func (j *Job) leaves(schema *parquet.Schema) (leaves []leaf, ignored []string, err error) {
	fields := columnFields[j.cfg.Signal]
	for _, path := range schema.Columns() {
		column, _ := schema.Lookup(path...)
		of, err := leafOf(fields, path, column.Node)
		if err != nil {
			return nil, nil, err
		}
		if of.field == "" {
			ignored = append(ignored, strings.Join(path, "."))
		}
		leaves = append(leaves, of)
	}
	if err := complete(j.cfg.Signal, leaves); err != nil {
		return nil, nil, err
	}
	return leaves, ignored, nil
}

func leafOf(fields map[string]byte, path []string, node parquet.Node) (of leaf, err error) {
	of = leaf{field: path[0], kind: fields[path[0]]}
	if prefix, name, dotted := strings.Cut(path[0], "."); dotted && len(path) == 1 && fields[prefix] == 'l' {
		of = leaf{field: prefix, kind: 's', name: name}
	}
	isText := node.Type().Kind() == parquet.ByteArray
	switch {
	case of.kind == 0:
		return leaf{}, nil
	case of.kind == 'l' && len(path) == 1:
		of.kind = 'j'
	case of.kind == 'l' && len(path) == 3 && path[2] == "key":
		of.kind = 'k'
	case of.kind == 'l' && len(path) == 3 && path[2] == "value":
		of.kind = 'v'
	case of.kind == 'l':
		of.kind, of.name = 's', strings.Join(path[1:], ".")
	case len(path) > 1:
		return leaf{}, fmt.Errorf("column %s: field %s is not nested", strings.Join(path, "."), path[0])
	}
	if node.Repeated() {
		return leaf{}, fmt.Errorf("column %s: it is a list; want one value", strings.Join(path, "."))
	}
	number := plainNumber(node)
	of.unit = timestampUnit(node)
	ok := isText
	switch of.kind {
	case 'n':
		ok = number
	case 'm':
		ok = isText || number || of.unit > 0
	case 's':
		ok = isText || number || node.Type().Kind() == parquet.Boolean
	}
	if !ok {
		return leaf{}, fmt.Errorf("column %s: type %s does not fit the field %s", strings.Join(path, "."), node.Type(), of.field)
	}
	return of, nil
}

// plainNumber says whether the column's numbers mean what they say: no decimals, dates or times of day.
func plainNumber(node parquet.Node) bool {
	switch node.Type().Kind() {
	case parquet.Float, parquet.Double:
		return true
	case parquet.Int32, parquet.Int64:
		logical := node.Type().LogicalType()
		if logical == nil {
			return true
		}
		integer, ok := logical.Value.(*pqformat.IntType)
		return ok && integer.IsSigned
	}
	return false
}

// timestampUnit is the column's unit in nanoseconds, 0 when it is no timestamp.
func timestampUnit(node parquet.Node) int64 {
	logical := node.Type().LogicalType()
	if logical == nil {
		return 0
	}
	stamp, ok := logical.Value.(*pqformat.TimestampType)
	if !ok {
		return 0
	}
	switch stamp.Unit.Value.(type) {
	case *pqformat.MilliSeconds:
		return int64(time.Millisecond)
	case *pqformat.MicroSeconds:
		return int64(time.Microsecond)
	}
	return 1
}

// parquetRows steps n rows of a row group. number is that of the first in the file.
func (j *Job) parquetRows(ctx context.Context, s *stepper, f *file, leaves []leaf, group int, from, n, number int64) error {
	opened, err := openParquet(ctx, f) // readers of one file share nothing
	if err != nil {
		return err
	}
	defer opened.close()
	rows := opened.RowGroups()[group].Rows()
	defer rows.Close()
	if err := rows.SeekToRow(from); err != nil {
		return fmt.Errorf("seek row %d: %w", number, err)
	}
	step := j.rowStepper(s, leaves)
	buffer := make([]parquet.Row, batchRows)
	for end := number + n; number < end; {
		got, err := rows.ReadRows(buffer[:min(int64(len(buffer)), end-number)])
		for _, row := range buffer[:got] {
			step(number, row)
			number++
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read row %d: %w", number, err)
		}
		if got == 0 {
			return fmt.Errorf("read row %d: the row group has fewer rows than it says", number)
		}
	}
	return nil
}

// rowStepper returns what steps a row: at once where it can, or else as JSON.
func (j *Job) rowStepper(s *stepper, leaves []leaf) func(number int64, row parquet.Row) {
	w := rowWriter{leaves: leaves}
	asRecord := func(number int64, row parquet.Row) {
		s.made(number, func(dst []byte) []byte { return w.row(dst, row) })
	}
	if j.cfg.Signal != events.Metrics {
		return asRecord
	}
	d := newDirect(&j.cfg, leaves)
	return func(number int64, row parquet.Row) {
		if m := d.metric(row); m == nil || !s.metric(m) {
			asRecord(number, row)
		}
	}
}

// rowWriter makes JSON events of rows.
type rowWriter struct {
	leaves []leaf
	labels []byte
	keys   [][]byte
	group  string
}

// row appends the event.
func (w *rowWriter) row(dst []byte, row parquet.Row) []byte {
	w.labels, w.keys = w.labels[:0], w.keys[:0]
	dst = append(dst, '{')
	whole, values := false, 0
	for i := range row {
		v := row[i]
		of := &w.leaves[v.Column()]
		if of.field == "" || v.IsNull() {
			if of.kind == 'v' && v.DefinitionLevel() > 0 {
				values++ // of a key without a value
			}
			continue
		}
		switch of.kind {
		case 'k':
			w.keys = append(w.keys, appendText(nil, v.ByteArray()))
			w.group = of.field
		case 'v':
			if values < len(w.keys) {
				w.member(w.keys[values], v)
			}
			values++
		case 's':
			w.group = of.field
			w.member(appendText(nil, []byte(of.name)), v)
		case 'j':
			whole = whole || of.holdsLabels()
			dst = appendJSON(appendKey(dst, of.field), v.ByteArray())
		case 'm':
			dst = appendKey(dst, of.field)
			if of.unit > 0 {
				dst = appendMoment(dst, v.Int64(), of.unit)
			} else {
				dst = appendValue(dst, v)
			}
		default:
			dst = appendValue(appendKey(dst, of.field), v)
		}
	}
	if len(w.labels) > 0 && !whole {
		dst = append(append(append(appendKey(dst, w.group), '{'), w.labels...), '}')
	}
	return append(dst, '}')
}

// member adds a label. Labels are text: numbers become theirs.
func (w *rowWriter) member(key []byte, v parquet.Value) {
	w.labels = appendMember(w.labels, key)
	if v.Kind() == parquet.ByteArray {
		w.labels = appendText(w.labels, v.ByteArray())
		return
	}
	w.labels = append(w.labels, '"')
	w.labels = append(appendNumber(w.labels, v), '"')
}

func appendValue(dst []byte, v parquet.Value) []byte {
	if v.Kind() == parquet.ByteArray {
		return appendText(dst, v.ByteArray())
	}
	if f := asFloat(v); math.IsNaN(f) || math.IsInf(f, 0) {
		return append(appendNumber(append(dst, '"'), v), '"') // refused as not finite
	}
	return appendNumber(dst, v)
}

func asFloat(v parquet.Value) float64 {
	switch v.Kind() {
	case parquet.Float:
		return float64(v.Float())
	case parquet.Double:
		return v.Double()
	}
	return 0
}

func appendNumber(dst []byte, v parquet.Value) []byte {
	switch v.Kind() {
	case parquet.Boolean:
		return strconv.AppendBool(dst, v.Boolean())
	case parquet.Int32:
		return strconv.AppendInt(dst, int64(v.Int32()), 10)
	case parquet.Int64:
		return strconv.AppendInt(dst, v.Int64(), 10)
	}
	return strconv.AppendFloat(dst, asFloat(v), 'g', -1, 64)
}

func appendMoment(dst []byte, n, unit int64) []byte {
	perSecond := int64(time.Second) / unit
	second, rest := n/perSecond, n%perSecond
	dst = time.Unix(second, rest*unit).UTC().AppendFormat(append(dst, '"'), time.RFC3339Nano)
	return append(dst, '"')
}

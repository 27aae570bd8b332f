package backfill

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/vigie-io/vigie/pkg/events"
)

// reasonBadCSV is of rows that are none, or have other fields than the header.
const reasonBadCSV events.Reason = "bad_csv"

// csv cuts a file whose first row names the columns. A line feed in quotes ends no row, so the file is read from its
// beginning to know where rows end, whatever chunks are wanted.
func (j *Job) csv(ctx context.Context, f *file, compression string, want func(int64) bool, yield func(*chunk) bool) error {
	in, end, err := f.open(ctx, compression)
	if err != nil {
		return err
	}
	defer end()
	leaves, first, err := j.header(f, in)
	if err != nil {
		return fmt.Errorf("load %s: %w", f.path, err)
	}
	err = cut(in, first, csvRow, want, func(index int64, t *text) bool {
		return t == nil || yield(&chunk{index, t.first, t.last, func(s *stepper) error {
			csvRows(leaves, t, s.made, s.reject)
			return nil
		}})
	})
	if err != nil {
		return fmt.Errorf("load %s: %w", f.path, err)
	}
	return nil
}

// csvRow takes the lines of one row, as encoding/csv reads it: a field that begins with a quote goes on to the quote
// that closes it, and a row that breaks the rules of quotes ends with the line where it does.
func csvRow(in *bufio.Reader, data []byte) (all []byte, lines int64, err error) {
	start, quoted := len(data), false
	for {
		from := len(data)
		var n int64
		data, n, err = line(in, data)
		if lines += n; n == 0 || err != nil {
			return data, lines, err
		}
		if quoted = openQuote(data[from:], quoted); !quoted {
			return data, lines, nil
		}
		if len(data)-start > chunkBytes {
			return data, 0, errTooLong
		}
	}
}

// openQuote says whether a line ends within quotes, when it began there or not.
func openQuote(line []byte, quoted bool) bool {
	for {
		if !quoted {
			if len(line) == 0 || line[0] != '"' {
				comma := bytes.IndexByte(line, ',')
				if comma < 0 || bytes.IndexByte(line[:comma], '"') >= 0 {
					return false
				}
				line = line[comma+1:]
				continue
			}
			line = line[1:]
		}
		quote := bytes.IndexByte(line, '"')
		if quote < 0 {
			return true
		}
		line = line[quote+1:]
		switch {
		case len(line) > 0 && line[0] == '"':
			line, quoted = line[1:], true
		case len(line) > 0 && line[0] == ',':
			line, quoted = line[1:], false
		default:
			return false
		}
	}
}

// header reads the names of the columns, and says in which line the rows begin.
func (j *Job) header(f *file, in *bufio.Reader) (leaves []leaf, first int64, err error) {
	if mark, err := in.Peek(3); err == nil && string(mark) == "\ufeff" {
		_, _ = in.Discard(len(mark))
	}
	var names []string
	for first = 1; names == nil; {
		text, n, err := csvRow(in, nil)
		if errors.Is(err, io.EOF) && n == 0 {
			return nil, 0, errors.New("the file is empty: want the names of the columns in its first row")
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, 0, fmt.Errorf("read the names of the columns: %w", err)
		}
		first += n
		names, err = csv.NewReader(bytes.NewReader(text)).Read()
		if err != nil && !errors.Is(err, io.EOF) { // EOF: a blank line
			return nil, 0, fmt.Errorf("read the names of the columns: %w", err)
		}
	}
	var ignored []string
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			return nil, 0, fmt.Errorf("there are two columns %q", name)
		}
		of := csvLeaf(columnFields[j.cfg.Signal], name)
		if of.field == "" {
			ignored = append(ignored, name)
		}
		leaves = append(leaves, of)
	}
	if len(ignored) > 0 {
		j.note("%s: columns that are no field of an event are left alone: %s", f.path, strings.Join(ignored, ", "))
	}
	return leaves, first, complete(j.cfg.Signal, leaves)
}

func csvLeaf(fields map[string]byte, name string) leaf {
	if field, label, dotted := strings.Cut(name, "."); dotted && fields[field] == 'l' {
		return leaf{field: field, kind: 's', name: label}
	}
	switch kind := fields[name]; kind {
	case 0:
		return leaf{}
	case 'l':
		return leaf{field: name, kind: 'j'}
	default:
		return leaf{field: name, kind: kind}
	}
}

// csvRows makes JSON events of the rows of a text, and rejects of those that are no rows.
func csvRows(leaves []leaf, t *text, made func(row int64, write func(dst []byte) []byte), reject func(Reject)) {
	in := csv.NewReader(bytes.NewReader(t.data))
	in.ReuseRecord, in.FieldsPerRecord = true, len(leaves)
	w := csvWriter{leaves: leaves}
	for {
		from := in.InputOffset()
		row, err := in.Read()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			var at *csv.ParseError
			line := t.first
			if errors.As(err, &at) {
				line += int64(at.StartLine) - 1
				err = fmt.Errorf("line %d, column %d: %w", t.first+int64(at.Line)-1, at.Column, at.Err)
			}
			original := bytes.TrimSpace(t.data[from:in.InputOffset()])
			reject(Reject{Row: line, Reason: string(reasonBadCSV), Detail: err.Error(), Original: string(original)})
			continue
		}
		line, _ := in.FieldPos(0)
		made(t.first+int64(line)-1, func(dst []byte) []byte { return w.row(dst, row) })
	}
}

// csvWriter makes JSON events of rows.
type csvWriter struct {
	leaves []leaf
	labels []byte
}

// row appends the event. A field without text is one that is not there.
func (w *csvWriter) row(dst []byte, row []string) []byte {
	w.labels = w.labels[:0]
	dst = append(dst, '{')
	whole, group := false, ""
	for i, text := range row {
		of := &w.leaves[i]
		if of.field == "" || text == "" {
			continue
		}
		switch of.kind {
		case 's':
			group = of.field
			w.labels = appendText(appendMember(w.labels, appendText(nil, []byte(of.name))), []byte(text))
		case 'j':
			whole = whole || of.holdsLabels()
			dst = appendJSON(appendKey(dst, of.field), []byte(text))
		case 'n', 'm':
			dst = appendCell(appendKey(dst, of.field), text)
		default:
			dst = appendText(appendKey(dst, of.field), []byte(text))
		}
	}
	if len(w.labels) > 0 && !whole {
		dst = append(append(append(appendKey(dst, group), '{'), w.labels...), '}')
	}
	return append(dst, '}')
}

// appendCell appends a number as it stands. Other texts are left to the decoder: it takes moments, and refuses NaN by
// its name.
func appendCell(dst []byte, text string) []byte {
	if c := text[len(text)-1]; (text[0] == '-' || text[0] >= '0' && text[0] <= '9') && c >= '0' &&
		c <= '9' && json.Valid([]byte(text)) {
		return append(dst, text...)
	}
	return appendText(dst, []byte(text))
}

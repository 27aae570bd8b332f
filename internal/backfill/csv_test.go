package backfill

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/pkg/events"
)

// read is what encoding/csv makes of text: rows, and errors with their lines.
func read(text []byte, first int64) (all []string) {
	in := csv.NewReader(bytes.NewReader(text))
	in.FieldsPerRecord = -1
	for {
		row, err := in.Read()
		var bad *csv.ParseError
		switch {
		case errors.Is(err, io.EOF):
			return all
		case errors.As(err, &bad):
			all = append(all, fmt.Sprintf("%d: %v", first+int64(bad.StartLine)-1, bad.Err))
		default:
			line, _ := in.FieldPos(0)
			all = append(all, fmt.Sprintf("%d: %q", first+int64(line)-1, row))
		}
	}
}

// rowByRow is the same of rows that were cut apart.
func rowByRow(t *testing.T, text []byte) (all []string) {
	t.Helper()
	in := bufio.NewReaderSize(bytes.NewReader(text), 16)
	for first := int64(1); ; {
		row, n, err := csvRow(in, nil)
		if err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		all = append(all, read(row, first)...)
		if first += n; n == 0 || err != nil {
			return all
		}
	}
}

// Rows end where encoding/csv ends them, whatever the quotes.
func FuzzCSVRows(f *testing.F) {
	for _, seed := range []string{
		"", "a,b\n1,2\n", "a,\"b\nc\"\r\n\"d\"\n", "\"a\"\"\n\",b\nx", "a\"b,\"c\nd\"\n", "\"a\"b,\"c\nd\n", "\"a\r",
		"\"\n\n\",\n\n,\"", "a,\"b\" \nc\n", "\r\n\"\"\r",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got, want := rowByRow(t, text), read(text, 1)
		if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
			t.Fatalf("%q: got\n%s\nwant\n%s", text, g, w)
		}
	})
}

// Every row becomes a JSON event or a reject.
func FuzzCSVEvents(f *testing.F) {
	f.Add("tenant,time,name,value,labels.a,labels,histogram\nacme,1,m,1e3,x,,\n,,,,,,\na,2026-01-01T00:00:00Z,\"\xff\",-,\"\n\",{},{\n")
	f.Add("\ufefftime,name,value\n\n1,m,1\n1,m,NaN\n1\n\"x")
	f.Fuzz(func(t *testing.T, text string) {
		j := &Job{cfg: Config{Signal: events.Metrics}, out: silent{}}
		in := bufio.NewReader(strings.NewReader(text))
		leaves, first, err := j.header(&file{}, in)
		if err != nil {
			return
		}
		_ = cut(in, first, csvRow, func(int64) bool { return true }, func(_ int64, c *chunkText) bool {
			records, rejects := csvRecords(leaves, c)
			for _, r := range records {
				if !json.Valid(r.Value) || r.Offset < c.first || r.Offset > c.last {
					t.Fatalf("row %d of %d to %d: got %q", r.Offset, c.first, c.last, r.Value)
				}
			}
			for _, r := range rejects {
				if r.Row < c.first || r.Row > c.last || r.Detail == "" {
					t.Fatalf("got reject %+v in rows %d to %d", r, c.first, c.last)
				}
			}
			return true
		})
	})
}

type chunkText = text // a fuzz argument has its name

func csvRecords(leaves []leaf, t *text) (records []pipeline.Record, rejects []Reject) {
	csvRows(leaves, t, func(row int64, write func([]byte) []byte) {
		records = append(records, pipeline.Record{Offset: row, Value: write(nil)})
	}, func(r Reject) { rejects = append(rejects, r) })
	return records, rejects
}

type silent struct{}

func (silent) Note(string)                   {}
func (silent) Reject(*Reject) error          { return nil }
func (silent) Flush() error                  { return nil }
func (silent) Progress(int64, int64, uint64) {}

// What a cell becomes: the event that the same text would be in JSON.
func TestCSVCells(t *testing.T) {
	f := func(header, row, want string) {
		t.Helper()
		j := &Job{cfg: Config{Signal: events.Spans}, out: silent{}}
		in := bufio.NewReader(strings.NewReader(header + "\n" + row))
		leaves, first, err := j.header(&file{}, in)
		if err != nil {
			t.Fatal(err)
		}
		rest, _ := io.ReadAll(in)
		records, rejects := csvRecords(leaves, &text{data: rest, first: first})
		got := ""
		if len(records) == 1 {
			got = string(records[0].Value)
		} else if len(rejects) == 1 {
			got = rejects[0].Reason + " " + rejects[0].Detail
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", row, got, want)
		}
	}
	f("time,duration", `1795428000.5,12ms`, `{"time":1795428000.5,"duration":"12ms"}`)
	f("time,duration", `2026-01-01T00:00:00Z,-1e-3`, `{"time":"2026-01-01T00:00:00Z","duration":-1e-3}`)
	// Not numbers of JSON: the decoder refuses them, and says so.
	f("time,duration", `01,NaN`, `{"time":"01","duration":"NaN"}`)
	// A number stays text where text is wanted, and an empty field is left out.
	f("time,duration,name,status_code,route", `1,2,3,200,`, `{"time":1,"duration":2,"name":"3","status_code":200}`)
	f("time,duration,attributes.a.b,other,attributes.c", `1,2,"x ""y""`+"\n"+`z",o,7`, `{"time":1,"duration":2,"attributes":{"a.b":"x \"y\"\nz","c":"7"}}`)
	f("time,duration,attributes", `1,2,"{""a"":1}"`, `{"time":1,"duration":2,"attributes":{"a":1}}`)
	f("time,duration,attributes", `1,2,{`, `{"time":1,"duration":2,"attributes":"{"}`)
	f("time,duration", `1,2,3`, `bad_csv line 2, column 1: wrong number of fields`)
	f("time,duration", `1,2"`, `bad_csv line 2, column 4: bare " in non-quoted-field`)
}

func TestCSVHeader(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		j := &Job{cfg: Config{Signal: events.Metrics}, out: silent{}}
		if _, _, err := j.header(&file{}, bufio.NewReader(strings.NewReader(text))); err == nil ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
	f("", "the file is empty: want the names of the columns in its first row")
	f("\n\r\n", "the file is empty")
	f("time,name,time\n", `two columns "time"`)
	f("name,value\n", "no column time")
	f("time,value\n", "no column name")
	f("time,\"name", `read the names of the columns: parse error on line 1`)
}

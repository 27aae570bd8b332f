package backfill

import (
	"bytes"
	"errors"
	"io"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

// The ways in which a file may hold what an event says; every field may be null.
type (
	mapFile struct {
		Tenant *string           `parquet:"tenant,optional,dict"`
		Time   *int64            `parquet:"time,optional,timestamp(microsecond)"`
		Start  *int64            `parquet:"start,optional"`
		Name   *string           `parquet:"name,optional,dict"`
		Kind   *string           `parquet:"kind,optional,dict"`
		Value  *float64          `parquet:"value,optional"`
		Unit   *string           `parquet:"unit,optional"`
		Help   *string           `parquet:"help,optional"`
		Hist   *string           `parquet:"histogram,optional"`
		Labels map[string]string `parquet:"labels,optional" parquet-value:",dict"`
		Other  *string           `parquet:"labels.other,optional"`
	}
	groupFile struct {
		Tenant *string  `parquet:"tenant,optional"`
		Time   *int64   `parquet:"time,optional"`
		Start  *string  `parquet:"start,optional"`
		Name   *string  `parquet:"name,optional"`
		Value  *float32 `parquet:"value,optional"`
		Labels *struct {
			A *string  `parquet:"a,optional"`
			B *int64   `parquet:"b,optional"`
			C *float64 `parquet:"c,optional"`
			D *bool    `parquet:"d,optional"`
			E *string  `parquet:"__name__,optional"`
		} `parquet:"labels,optional"`
	}
	textFile struct {
		Time   *int32  `parquet:"time,optional"`
		Name   *string `parquet:"name,optional"`
		Value  *int64  `parquet:"value,optional"`
		Labels *string `parquet:"labels,optional"`
		A      *string `parquet:"labels.a,optional"`
	}
)

var (
	someText = rapid.SampledFrom([]string{"", "a", "acme", "x y", "é", "\u2028", "<&>", `"`, `\`, "\n", "\x00", "\x7f", "\xff",
		"a\xc3", "\uFFFD", "__name__", "observation", "delta", "gauge", "cumulative", "{}",
		strings.Repeat("n", 20), strings.Repeat("v", 40)})
	someFloat = rapid.OneOf(rapid.Float64(),
		rapid.SampledFrom([]float64{0, math.Copysign(0, -1), 1e300, 5e-324, math.NaN(), math.Inf(1),
			math.Inf(-1), 1e21, 123456789.125}))
	someInt = rapid.OneOf(rapid.Int64(), rapid.Int64Range(0, 2e18),
		rapid.SampledFrom([]int64{0, -1, 1e11, 1e11 - 1, 1e14, 1e14 - 1, 1e17, 1e17 - 1, 1e17 - 7, 1e17 - 8, 1e17 - 9,
			9_223_372_036, 9_223_372_037, math.MaxInt64, math.MinInt64}))
	plainText = rapid.SampledFrom([]string{"a", "b", "service", "né", "x<y"})
)

// maybe is mostly what is likely, sometimes anything, and now and then nothing.
func maybe[T any](t *rapid.T, likely, any *rapid.Generator[T]) *T {
	switch n := rapid.IntRange(0, 19).Draw(t, "which"); {
	case n == 0:
		return nil
	case n < 3:
		v := any.Draw(t, "any")
		return &v
	}
	v := likely.Draw(t, "likely")
	return &v
}

func seldom[T any](t *rapid.T, any *rapid.Generator[T]) *T {
	if rapid.IntRange(0, 9).Draw(t, "seldom") > 0 {
		return nil
	}
	v := any.Draw(t, "value")
	return &v
}

func fill(t *rapid.T, v reflect.Value) {
	micros := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
	for i := range v.NumField() {
		switch f := v.Field(i).Addr().Interface().(type) {
		case **string:
			switch name := v.Type().Field(i).Name; name {
			case "Kind":
				*f = maybe(t, rapid.SampledFrom([]string{"observation", "delta", "gauge", "cumulative"}), someText)
			case "Hist", "Start":
				*f = seldom(t, rapid.SampledFrom([]string{"{}", "x", "2026-01-01T00:00:00Z", `{"scale":3,"count":1,"sum":1,"zero_count":1}`}))
			case "Labels":
				*f = seldom(t, rapid.SampledFrom([]string{"{}", "x", `{"a":"b"}`, `{"a":"b","a":"c"}`}))
			case "Tenant":
				*f = maybe(t, rapid.SampledFrom([]string{"acme", "acme", "demo"}), someText)
			default:
				*f = maybe(t, plainText, someText)
			}
		case **int64:
			if v.Type().Field(i).Name == "Start" {
				*f = seldom(t, someInt)
			} else {
				*f = maybe(t, rapid.Just(micros), someInt)
			}
		case **int32:
			*f = maybe(t, rapid.Int32Range(0, math.MaxInt32), rapid.Int32())
		case **float64:
			*f = maybe(t, rapid.Float64Range(-1e6, 1e6), someFloat)
		case **float32:
			*f = maybe(t, rapid.Float32Range(-1e6, 1e6),
				rapid.Custom(func(t *rapid.T) float32 { return float32(someFloat.Draw(t, "f")) }))
		case **bool:
			*f = maybe(t, rapid.Bool(), rapid.Bool())
		case *map[string]string:
			if rapid.IntRange(0, 9).Draw(t, "strange") == 0 {
				*f = rapid.MapOfN(someText, someText, 0, 6).Draw(t, "labels")
			} else {
				*f = rapid.MapOfN(plainText, plainText, 0, 4).Draw(t, "labels")
			}
		default: // the group
			if group := v.Field(i); rapid.IntRange(0, 9).Draw(t, "group") > 0 {
				group.Set(reflect.New(group.Type().Elem()))
				fill(t, group.Elem())
			}
		}
	}
}

// A row that is made a metric at once is the metric that its JSON is, and one of which JSON is refused is not made one.
func TestDirectIsJSON(t *testing.T) {
	direct, all := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		cfg := Config{Signal: events.Metrics, Decoder: events.Options{MaxName: 12, MaxValue: 30, MaxLabels: 4}}
		if rapid.Bool().Draw(t, "of one tenant") {
			cfg.Tenant = "acme"
		}
		var d, n int
		switch rapid.IntRange(0, 2).Draw(t, "file") {
		case 0:
			d, n = directIsJSON[mapFile](t, cfg)
		case 1:
			d, n = directIsJSON[groupFile](t, cfg)
		default:
			cfg.Tenant = "acme"
			d, n = directIsJSON[textFile](t, cfg)
		}
		direct, all = direct+d, all+n
	})
	t.Logf("%d of %d rows direct", direct, all)
	if direct < all/50 || direct > all*9/10 {
		t.Errorf("got %d of %d rows direct: the test proves too little", direct, all)
	}
}

func directIsJSON[T any](t *rapid.T, cfg Config) (made, all int) {
	rows := make([]T, rapid.IntRange(1, 20).Draw(t, "rows"))
	for i := range rows {
		fill(t, reflect.ValueOf(&rows[i]).Elem())
	}
	var file bytes.Buffer
	out := parquet.NewGenericWriter[T](&file)
	if _, err := out.Write(rows); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	opened, err := parquet.OpenFile(bytes.NewReader(file.Bytes()), int64(file.Len()))
	if err != nil {
		t.Fatal(err)
	}
	j := &Job{cfg: cfg, out: silent{}}
	leaves, _, err := j.leaves(opened.Schema())
	if err != nil {
		t.Fatal(err)
	}
	d, w, decoder := newDirect(&cfg, leaves), rowWriter{leaves: leaves}, events.NewDecoder(cfg.Decoder)
	in := opened.RowGroups()[0].Rows()
	defer in.Close()
	buffer := make([]parquet.Row, 7)
	for {
		n, err := in.ReadRows(buffer)
		for _, row := range buffer[:n] {
			all++
			value := w.row(nil, row)
			got := d.metric(row)
			if got == nil {
				continue
			}
			made++
			var batch events.Batch
			decoder.Decode(&batch, events.Source{Signal: events.Metrics, ContentType: "application/json", Key: []byte(cfg.Tenant), Value: value})
			if len(batch.Rejects) > 0 || len(batch.Metrics) != 1 {
				t.Fatalf("%s: made a metric, but its JSON is refused: %+v", value, batch.Rejects)
			}
			same(t, value, got, &batch.Metrics[0])
		}
		if errors.Is(err, io.EOF) {
			return made, all
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func same(t *rapid.T, value []byte, got, want *events.Metric) {
	a, b := *got, *want
	if math.Float64bits(a.Value) != math.Float64bits(b.Value) || !series.Labels(a.Labels).Equal(b.Labels) {
		t.Fatalf("%s: got %+v, want %+v", value, a, b)
	}
	a.Labels, b.Labels = nil, nil
	if !reflect.DeepEqual(a, b) {
		t.Fatalf("%s: got %+v, want %+v", value, a, b)
	}
}

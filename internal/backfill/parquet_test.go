package backfill_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/vigie-io/vigie/pkg/events"
)

// mapRow holds labels as a map, structRow as a group, textRow as JSON, dottedRow in columns of their own.
type (
	mapRow struct {
		Tenant string            `parquet:"tenant,dict"`
		Time   time.Time         `parquet:"time,timestamp(nanosecond)"`
		Name   string            `parquet:"name,dict"`
		Kind   string            `parquet:"kind,dict"`
		Value  float64           `parquet:"value"`
		Labels map[string]string `parquet:"labels"`
		Extra  int32             `parquet:"extra"`
	}
	structRow struct {
		Tenant string  `parquet:"tenant"`
		Time   string  `parquet:"time"`
		Name   string  `parquet:"name"`
		Kind   string  `parquet:"kind"`
		Value  float64 `parquet:"value"`
		Labels struct {
			N       int64  `parquet:"n"`
			Service string `parquet:"service,optional"`
		} `parquet:"labels"`
	}
	textRow struct {
		Tenant string  `parquet:"tenant"`
		Time   int64   `parquet:"time"`
		Name   string  `parquet:"name"`
		Kind   string  `parquet:"kind"`
		Value  float64 `parquet:"value"`
		Labels string  `parquet:"labels"`
	}
	dottedRow struct {
		Tenant  string  `parquet:"tenant"`
		Time    int64   `parquet:"time,timestamp(nanosecond)"`
		Name    string  `parquet:"name"`
		Kind    string  `parquet:"kind"`
		Value   float64 `parquet:"value"`
		N       int64   `parquet:"labels.n"`
		Service string  `parquet:"labels.service,optional"`
	}
)

func writeParquet[T any](t testing.TB, path string, all []events.Metric, row func(m *events.Metric) T) {
	t.Helper()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	out := parquet.NewGenericWriter[T](file, parquet.MaxRowsPerRowGroup(int64(len(all)/3+1)))
	for i := range all {
		if _, err := out.Write([]T{row(&all[i])}); err != nil {
			t.Fatal(err)
		}
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

func toMapRow(m *events.Metric) mapRow {
	labels := map[string]string{}
	for _, l := range m.Labels {
		labels[l.Name] = l.Value
	}
	return mapRow{Tenant: m.Tenant, Time: time.Unix(0, m.Time), Name: m.Name, Kind: m.Kind.String(),
		Value: m.Value, Labels: labels}
}

func number(m *events.Metric) (n int64) {
	_, _ = fmt.Sscan(m.Labels.Get("n"), &n)
	return n
}

// Every way to write labels gives what NDJSON gives.
func TestParquetIsNDJSON(t *testing.T) {
	all := someMetrics(4_000)
	d := newDatabase(t)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "oracle.ndjson"), ndjson(all))
	if _, _, err := d.run(t, config(filepath.Join(dir, "oracle.ndjson")), nil); err != nil {
		t.Fatal(err)
	}
	want := d.contents(t)

	writeParquet(t, filepath.Join(dir, "map.parquet"), all, toMapRow)
	writeParquet(t, filepath.Join(dir, "struct.parquet"), all, func(m *events.Metric) (r structRow) {
		r = structRow{Tenant: m.Tenant, Time: time.Unix(0, m.Time).UTC().Format(time.RFC3339Nano), Name: m.Name,
			Kind: m.Kind.String(), Value: m.Value}
		r.Labels.N, r.Labels.Service = number(m), m.Labels.Get("service")
		return r
	})
	writeParquet(t, filepath.Join(dir, "text.parquet"), all, func(m *events.Metric) textRow {
		return textRow{m.Tenant, m.Time, m.Name, m.Kind.String(), m.Value,
			fmt.Sprintf(`{"n":"%d","service":%q}`, number(m), m.Labels.Get("service"))}
	})
	writeParquet(t, filepath.Join(dir, "dotted.parquet"), all, func(m *events.Metric) dottedRow {
		return dottedRow{m.Tenant, m.Time, m.Name, m.Kind.String(), m.Value, number(m), m.Labels.Get("service")}
	})
	for _, name := range []string{"map", "struct", "text", "dotted"} {
		t.Run(name, func(t *testing.T) {
			d.empty(t)
			sum, out, err := d.run(t, config(filepath.Join(dir, name+".parquet")), nil)
			if err != nil || sum.Rows != 4_000 || sum.Rejected != 0 {
				t.Fatalf("got %+v, %v, %v, %.500v", sum, err, out.notes, out.rejects)
			}
			same(t, d.contents(t), want)
		})
	}
	write(t, filepath.Join(dir, "text.ndjson"), []byte("x"))
	if err := os.Rename(filepath.Join(dir, "text.ndjson"), filepath.Join(dir, "no.parquet")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := d.run(t, config(filepath.Join(dir, "no.parquet")), nil); err == nil ||
		!strings.Contains(err.Error(), "as Parquet") {
		t.Errorf("a file that is no Parquet: got %v, want an error that says so", err)
	}
}

// A column of the wrong type, and a file without a column that every event needs, end the run before anything is
// stored.
func TestParquetRefusesSchema(t *testing.T) {
	type wrongType struct {
		Time  int64  `parquet:"time"`
		Name  string `parquet:"name"`
		Value string `parquet:"value"`
	}
	type noTime struct {
		Name  string  `parquet:"name"`
		Value float64 `parquet:"value"`
	}
	d, dir, all := newDatabase(t), t.TempDir(), someMetrics(1)
	writeParquet(t, filepath.Join(dir, "type.parquet"), all, func(*events.Metric) wrongType { return wrongType{} })
	writeParquet(t, filepath.Join(dir, "time.parquet"), all, func(*events.Metric) noTime { return noTime{} })
	f := func(name, want string) {
		t.Helper()
		if _, _, err := d.run(t, config(filepath.Join(dir, name)), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", name, err, want)
		}
	}
	f("type.parquet", "column value")
	f("time.parquet", "no column time")
}

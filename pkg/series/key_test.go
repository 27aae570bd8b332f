package series_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/pkg/series"
)

// Golden bytes of docs/format/series.md. They are in every stored row: a change here is a change of format.
func TestKeyGolden(t *testing.T) {
	f := func(kind byte, metric string, ls series.Labels, wantKey, wantID string) {
		t.Helper()
		key := series.AppendKey(nil, kind, metric, ls)
		if got := hex.EncodeToString(key); got != wantKey {
			t.Fatalf("key: got %s, want %s", got, wantKey)
		}
		if got := series.Hash(key).String(); got != wantID {
			t.Fatalf("id: got %s, want %s", got, wantID)
		}
	}
	f(0, "", nil, "0000", "4758ddac5f9ee9383325230e1f285505")
	f(1, "up", nil, "01027570", "b8e6f2623c670e1b3e9e7fd689a80308")
	f(0, "lat", pairs("route", "/pay", "service", "checkout"),
		"00036c617405726f757465042f706179"+"077365727669636508636865636b6f7574", "abc58fd88fae6ce6aecbddc6b5476653")
}

func TestKeyRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kind, metric, ls := drawSeries(t, "a")
		key := series.AppendKey([]byte("before"), kind, metric, ls)
		gotKind, gotMetric, gotLabels, err := series.ParseKey(key[len("before"):])
		if err != nil || gotKind != kind || gotMetric != metric || !gotLabels.Equal(ls) {
			t.Fatalf("got %d %q %v %v, want %d %q %v", gotKind, gotMetric, gotLabels, err, kind, metric, ls)
		}
		var table series.Table[int]
		ref, _ := table.Insert(key[len("before"):], 1)
		before := series.Labels{{Name: "before"}}
		if got := table.AppendLabels(before, ref); got[0] != before[0] || !got[1:].Equal(ls) {
			t.Fatalf("labels of a table's key: got %v, want %v", got, ls)
		}
	})
}

// Two series have the same key only if they are the same.
func TestKeyInjective(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kindA, metricA, a := drawSeries(t, "a")
		kindB, metricB, b := drawSeries(t, "b")
		same := kindA == kindB && metricA == metricB && a.Equal(b)
		equal := bytes.Equal(series.AppendKey(nil, kindA, metricA, a), series.AppendKey(nil, kindB, metricB, b))
		if same != equal {
			t.Fatalf("got equal keys %v, want %v", equal, same)
		}
	})
}

func FuzzParseKey(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 0})
	f.Add([]byte{0, 0x80, 0})                                                         // a length spelled too long
	f.Add([]byte{0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})      // 2^64-1 bytes announced
	f.Add([]byte{0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7}) // more than 64 bits
	f.Add(series.AppendKey(nil, 1, "m", pairs("b", "1", "a", "2")))                   // not sorted
	f.Add(series.AppendKey(nil, 1, "m", pairs("a", "1", "a", "2")))                   // not unique
	f.Add(series.AppendKey(nil, 1, "m", pairs("a", "")))
	f.Add(series.AppendKey(nil, 3, "m", pairs("a", "1", "b", "2")))
	f.Fuzz(func(t *testing.T, key []byte) {
		kind, metric, ls, err := series.ParseKey(key)
		if err != nil {
			if !errors.Is(err, series.ErrKey) {
				t.Fatalf("got error %v, want ErrKey", err)
			}
			return
		}
		if again := series.AppendKey(nil, kind, metric, ls); !bytes.Equal(again, key) {
			t.Fatalf("got %x back, want %x", again, key)
		}
	})
}

func TestIDCompare(t *testing.T) {
	f := func(a, b series.ID, want int) {
		t.Helper()
		if got := a.Compare(b); got != want {
			t.Fatalf("%s to %s: got %d, want %d", a, b, got, want)
		}
	}
	f(series.ID{}, series.ID{}, 0)
	f(series.ID{Hi: 1}, series.ID{Lo: ^uint64(0)}, 1)
	f(series.ID{Hi: 1, Lo: 1}, series.ID{Hi: 1, Lo: 2}, -1)
}

func BenchmarkKeyAndHash(b *testing.B) {
	ls := pairs("az", "b", "region", "eu-west-1", "route", "/pay", "service", "checkout", "status", "200")
	var key []byte
	b.ReportAllocs()
	for b.Loop() {
		key = series.AppendKey(key[:0], 0, "http_request_duration_seconds", ls)
		series.Hash(key)
	}
	b.SetBytes(int64(len(key)))
}

// drawSeries draws from a small alphabet so that near misses (a length byte that looks like text) are common.
func drawSeries(t *rapid.T, label string) (kind byte, metric string, ls series.Labels) {
	text := rapid.StringOfN(rapid.SampledFrom([]rune("\x00\x01\x02ab")), 0, 3, -1)
	kind = rapid.ByteRange(0, 3).Draw(t, label+" kind")
	metric = text.Draw(t, label+" metric")
	var labels []series.Label
	for name, value := range rapid.MapOfN(text, text, 0, 3).Draw(t, label+" labels") {
		if name != "" {
			labels = append(labels, series.Label{Name: name, Value: value})
		}
	}
	ls, err := series.Sort(labels)
	if err != nil {
		t.Fatalf("sort %v: %v", labels, err)
	}
	return kind, metric, ls
}

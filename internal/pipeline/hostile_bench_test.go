package pipeline

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

// hostility is one way to make events dear. Its records are never the same twice.
type hostility struct {
	name  string
	value func(h *hostile, m events.Metric) []byte
	// known says that the events are of series that the tenant has. Others are beyond its limit, or refused.
	perRecord int
	record    func(h *hostile, list []events.Metric) []byte
}

// hostile makes the events of one benchmark.
type hostile struct {
	random *rand.Rand
	n      int
}

const hostileSeries = 10_000

// hostilities are what a producer may do, by the format it does it in. The first of each format is as events should be.
func hostilities() map[string][]hostility {
	one := func(name string, value func(*hostile, events.Metric) []byte) hostility {
		return hostility{name: name, value: value}
	}
	json := func(change func(h *hostile, m *events.Metric)) func(*hostile, events.Metric) []byte {
		return func(h *hostile, m events.Metric) []byte {
			change(h, &m)
			return events.AppendMetric(nil, &m)
		}
	}
	protobuf := func(change func(h *hostile, m *events.Metric)) func(*hostile, events.Metric) []byte {
		return func(h *hostile, m events.Metric) []byte {
			change(h, &m)
			return events.AppendMetricProtobuf(nil, &m)
		}
	}
	otlp := func(name string, change func(h *hostile, m *events.Metric)) hostility {
		return hostility{name: name, perRecord: 100, record: func(h *hostile, list []events.Metric) []byte {
			for i := range list {
				change(h, &list[i])
			}
			return exportRequest(list)
		}}
	}
	cut := func(b []byte) []byte { return b[:len(b)-10] }
	return map[string][]hostility{
		"JSON": {
			one("tame", json(tame)),
			one("a label of its own", json(unique)),
			one("series of a million", json(ofAMillion)),
			one("fields and labels in any order", shuffledJSON),
			one("a field of its own", func(h *hostile, m events.Metric) []byte {
				tame(h, &m)
				return append(fmt.Appendf(nil, `{"x":%d,`, h.next()), events.AppendMetric(nil, &m)[1:]...)
			}),
			one("escapes in every text", escapedJSON),
			one("a field twice", func(h *hostile, m events.Metric) []byte {
				tame(h, &m)
				return append(fmt.Appendf(nil, `{"unit":"%d","unit":"s",`, h.next()), events.AppendMetric(nil, &m)[1:]...)
			}),
			one("nested deep", func(h *hostile, m events.Metric) []byte {
				tame(h, &m)
				return append(fmt.Appendf(nil, `{"x":%s%d%s,`, strings.Repeat(`{"a":[`, 15), h.next(), strings.Repeat(`]}`, 15)),
					events.AppendMetric(nil, &m)[1:]...)
			}),
			one("numbers of 300 digits", func(h *hostile, m events.Metric) []byte {
				tame(h, &m)
				m.Value = 0.5
				return bytes.Replace(events.AppendMetric(nil, &m), []byte(`0.5`),
					fmt.Appendf(nil, `0.%d%s`, 1+h.random.IntN(9), strings.Repeat("7", 300)), 1)
			}),
			one("values of 4 kB", json(func(h *hostile, m *events.Metric) { own(m, "trace", fmt.Sprintf("%04000d", h.next())) })),
			one("64 labels", json(func(h *hostile, m *events.Metric) {
				for i := range 58 {
					own(m, fmt.Sprint("label", i), fmt.Sprint(h.random.IntN(10)))
				}
				unique(h, m)
			})),
			one("cut off", func(h *hostile, m events.Metric) []byte { tame(h, &m); return cut(events.AppendMetric(nil, &m)) }),
			one("of any time of three days", json(anyTime)),
			one("of the future", json(future)),
		},
		"protobuf": {
			one("tame", protobuf(tame)),
			one("a label of its own", protobuf(unique)),
			one("series of a million", protobuf(ofAMillion)),
			one("labels in any order", protobuf(func(h *hostile, m *events.Metric) { tame(h, m); h.shuffle(m) })),
			one("a field of its own", func(h *hostile, m events.Metric) []byte {
				tame(h, &m)
				inner := events.AppendMetricProtobuf(nil, &m)
				rest := inner
				f := protobufField(&rest)
				return field(nil, 2, field(slices.Clone(f), 100, fmt.Append(nil, h.next())))
			}),
			one("cut off", func(h *hostile, m events.Metric) []byte {
				tame(h, &m)
				return cut(events.AppendMetricProtobuf(nil, &m))
			}),
			one("of any time of three days", protobuf(anyTime)),
			one("of the future", protobuf(future)),
		},
		"OTLP": {
			otlp("tame", tame),
			otlp("a label of its own", unique),
			otlp("series of a million", ofAMillion),
			otlp("labels in any order", func(h *hostile, m *events.Metric) { tame(h, m); h.shuffle(m) }),
			{name: "cut off", perRecord: 100, record: func(h *hostile, list []events.Metric) []byte { return cut(exportRequest(list)) }},
			otlp("of any time of three days", anyTime),
			otlp("of the future", future),
		},
	}
}

func (h *hostile) next() int { h.n++; return h.n }

func (h *hostile) shuffle(m *events.Metric) {
	m.Labels = slices.Clone(m.Labels)
	h.random.Shuffle(len(m.Labels), func(i, j int) { m.Labels[i], m.Labels[j] = m.Labels[j], m.Labels[i] })
}

func own(m *events.Metric, name, value string) {
	m.Labels = append(slices.Clone(m.Labels), series.Label{Name: name, Value: value})
}

func tame(h *hostile, m *events.Metric) {
	m.Value = h.random.ExpFloat64()
	m.Time -= h.random.Int64N(int64(time.Second))
}

func unique(h *hostile, m *events.Metric) {
	tame(h, m)
	own(m, "trace", fmt.Sprintf("%016x%016x", h.random.Uint64(), h.random.Uint64()))
}

// ofAMillion is of one of a few more series than the tenant may have, which come again.
func ofAMillion(h *hostile, m *events.Metric) {
	tame(h, m)
	own(m, "user", fmt.Sprint(h.random.IntN(100)))
}

func anyTime(h *hostile, m *events.Metric) { m.Time -= h.random.Int64N(int64(70 * time.Hour)) }

func future(h *hostile, m *events.Metric) {
	m.Time += int64(10*time.Minute) + h.random.Int64N(int64(70*time.Hour))
}

func shuffledJSON(h *hostile, m events.Metric) []byte {
	tame(h, &m)
	h.shuffle(&m)
	parts := []string{fmt.Sprintf(`"tenant":%q`, m.Tenant), fmt.Sprintf(`"time":%d`, m.Time), fmt.Sprintf(`"name":%q`, m.Name),
		fmt.Sprintf(`"value":%g`, m.Value)}
	var labels []string
	for _, l := range m.Labels {
		labels = append(labels, fmt.Sprintf("%q:%q", l.Name, l.Value))
	}
	parts = append(parts, `"labels":{`+strings.Join(labels, ",")+"}")
	h.random.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
	return []byte("{" + strings.Join(parts, ",") + "}")
}

// escapedJSON spells a letter of each name and text as a number.
func escapedJSON(h *hostile, m events.Metric) []byte {
	tame(h, &m)
	text := func(s string) string {
		at := h.random.IntN(len(s))
		return fmt.Sprintf(`"%s\u%04x%s"`, s[:at], s[at], s[at+1:])
	}
	var labels []string
	for _, l := range m.Labels {
		labels = append(labels, text(l.Name)+":"+text(l.Value))
	}
	return fmt.Appendf(nil, `{%s:%s,"time":%d,%s:%s,%s:%g,%s:{%s}}`, text("tenant"), text(m.Tenant), m.Time, text("name"),
		text(m.Name), text("value"), m.Value, text("labels"), strings.Join(labels, ","))
}

// protobufField is the first field of bytes of a message.
func protobufField(b *[]byte) []byte {
	at, size, shift := 1, 0, 0
	for ; ; at++ {
		size |= int((*b)[at]&0x7f) << shift
		if shift += 7; (*b)[at] < 0x80 {
			break
		}
	}
	return (*b)[at+1:][:size]
}

func (k *hostility) records(h *hostile, all []events.Metric, n int) (records []Record) {
	per := max(k.perRecord, 1)
	for range n / per {
		var value []byte
		if k.record != nil {
			from := h.random.IntN(len(all) - per)
			value = k.record(h, slices.Clone(all[from:][:per]))
		} else {
			value = k.value(h, all[h.random.IntN(len(all))])
		}
		records = append(records,
			Record{Offset: int64(h.next()), Timestamp: benchNow.UnixNano(), Key: []byte(all[0].Tenant), Value: value})
	}
	return records
}

// BenchmarkHostile is one event of a tenant that has reached its limit of series, as it should be and as it should not,
// in turns: x-tame is by how much the latter is dearer. The end of an epoch is not in it: bench/compare has the whole.
func BenchmarkHostile(b *testing.B) {
	for _, format := range []string{"JSON", "protobuf", "OTLP"} {
		kinds := hostilities()[format]
		for i := range kinds {
			b.Run(format+"/"+kinds[i].name, func(b *testing.B) { benchHostile(b, &kinds[0], &kinds[i]) })
		}
	}
}

func benchHostile(b *testing.B, tame, kind *hostility) {
	const chunk = 5_000
	all := benchMetrics(hostileSeries)
	limits := tenants.DefaultConfig()
	limits.Defaults.ActiveSeries = hostileSeries
	h := &hostile{random: rand.New(rand.NewPCG(1, 2))}
	var cpu [2]time.Duration
	var turns [2]*Task
	var out = NewOutputs(&turnsConfig)
	for i := range turns {
		turns[i] = NewTask(TaskConfig{Partition: Partition{Topic: "t"}, Signal: events.Metrics, Config: turnsConfig,
			Limits: func() *tenants.Config { return &limits }})
		step := func(records []Record) {
			turns[i].Step(&Chunk{Signal: events.Metrics, Records: records}, benchNow.UnixMilli())
		}
		for from := range 2 * len(all) / 100 {
			var value []byte
			for _, m := range all[from%(len(all)/100)*100:][:100] {
				value = append(events.AppendMetric(value, &m), '\n')
			}
			step([]Record{{Timestamp: benchNow.UnixNano(), Key: []byte("acme"), Value: value}})
		}
		for range 8 {
			step([...]*hostility{tame, kind}[i].records(h, all, chunk))
		}
		turns[i].letters = nil
	}
	bytes, letters := 0, uint64(0)
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // making events leaves much, and is not what is measured
	b.ReportAllocs()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for n := 0; b.Loop(); n++ {
		if n%chunk != 0 {
			continue
		}
		for i, kind := range [...]*hostility{tame, kind} {
			task := turns[i]
			records := kind.records(h, all, chunk)
			began := threadCPU()
			task.Step(&Chunk{Signal: events.Metrics, Records: records}, benchNow.UnixMilli())
			cpu[i] += threadCPU() - began
			if i == 1 {
				for j := range records {
					bytes += len(records[j].Value)
				}
				letters += uint64(len(task.letters))
			}
			task.letters, task.letterBytes = nil, 0
			if n/chunk%10 == 9 {
				out.Reset()
				task.Drain(out, benchNow.UnixMilli())
				task.Committed(true)
				runtime.GC()
			}
		}
	}
	events := float64((b.N + chunk - 1) / chunk * chunk)
	b.ReportMetric(float64(cpu[1])/events, "event-ns")
	b.ReportMetric(float64(cpu[0])/events, "tame-ns")
	b.ReportMetric(float64(cpu[1])/float64(cpu[0]), "x-tame")
	b.ReportMetric(float64(bytes)/events, "bytes")
	b.ReportMetric(float64(letters)/events, "letters")
}

var turnsConfig = DefaultConfig()

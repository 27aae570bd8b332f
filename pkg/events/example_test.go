package events_test

import (
	"fmt"

	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

func ExampleDecoder_Decode() {
	decoder := events.NewDecoder(events.Options{})
	var batch events.Batch // used again for the next record
	decoder.Decode(&batch, events.Source{
		Signal: events.Metrics,
		Key:    []byte("acme#3"),
		Value: []byte(`[{"time":1795428000,"name":"job_seconds","value":1.25,"labels":{"service":"nightly"}},
			{"time":1795428000,"name":"job_seconds","value":NaN}]`),
	})
	for i, m := range batch.Metrics {
		fmt.Println(batch.MetricIndex[i], m.Tenant, m.Name, m.Kind, m.Value, m.Labels.Get("service"))
	}
	for _, r := range batch.Rejects {
		fmt.Println(r.Index, r.Reason, r.Field)
	}
	// Output:
	// 0 acme job_seconds observation 1.25 nightly
	// 1 not_finite value
}

func ExampleAppendMetricProtobuf() {
	m := events.Metric{Time: 1_795_428_000_123_000_000, Name: "orders_total", Kind: events.Delta, Value: 3}
	record := events.AppendMetricProtobuf(nil, &m)
	m.Name = "refunds_total"
	record = events.AppendMetricProtobuf(record, &m) // two events in one record
	var batch events.Batch
	events.NewDecoder(events.Options{}).Decode(&batch, events.Source{Signal: events.Metrics, Key: []byte("acme"), Value: record})
	fmt.Println(len(batch.Metrics), batch.Metrics[0].Name, batch.Metrics[1].Name)
	// Output:
	// 2 orders_total refunds_total
}

func ExampleAppendMetric() {
	fmt.Printf("%s\n", events.AppendMetric(nil, &events.Metric{
		Time: 1_795_428_000_123_000_000, Name: "orders_total", Kind: events.Delta, Value: 3,
		Labels: series.Labels{{Name: "service", Value: "checkout"}},
	}))
	// Output:
	// {"time":"2026-11-23T10:00:00.123Z","name":"orders_total","kind":"delta","value":3,"labels":{"service":"checkout"}}
}

package vigiev1_test

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/vigie-io/vigie/pkg/events"
	vigiev1 "github.com/vigie-io/vigie/proto/vigie/v1"
)

// What a producer writes, and what Vigie makes of it.
func ExampleEvents() {
	value, err := proto.Marshal(&vigiev1.Events{Metrics: []*vigiev1.Metric{{
		Time: 1_795_428_000_123_000_000, // time.Now().UnixNano()
		Name: "job_seconds", Data: &vigiev1.Metric_Value{Value: 1.25},
		Labels: []*vigiev1.Label{{Name: "service", Value: "nightly"}},
	}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	var batch events.Batch
	events.NewDecoder(events.Options{}).Decode(&batch, events.Source{
		Signal: events.Metrics, ContentType: events.ContentTypeProtobuf, Key: []byte("acme"), Value: value,
	})
	fmt.Printf("%s\n", events.AppendMetric(nil, &batch.Metrics[0]))
	// Output:
	// {"tenant":"acme","time":"2026-11-23T10:00:00.123Z","name":"job_seconds","value":1.25,"labels":{"service":"nightly"}}
}

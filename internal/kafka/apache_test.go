package kafka_test

import (
	"strings"
	"testing"

	"github.com/vigie-io/vigie/internal/kafka"
	"github.com/vigie-io/vigie/internal/testkit"
)

// What kfake is lenient about (failed produces, transaction states, topic deletion) shows here.
func TestSessionOnApacheKafka(t *testing.T) {
	broker := testkit.ApacheKafka(t)
	conformance(t, func(t *testing.T) kafka.Config {
		leaks(t)
		return install(t, strings.Split(broker.Addr, ",")...)
	})
}

package cli

import (
	"slices"
	"testing"
	"time"
)

func TestMetricsFlag(t *testing.T) {
	args := []string{"-metrics", "a.prom", "-table=all", "-since", "3h", "-config", "c.yaml"}
	audit, rest, err := parseAudit(args, time.Now())
	if err != nil || audit.metrics != "a.prom" || len(audit.Tables) < 2 || !slices.Equal(rest, args[5:]) {
		t.Errorf("audit: got %+v, rest %q, %v", audit, rest, err)
	}
	verify, rest, err := parseVerify(append([]string{"-from", "vigie.metrics.v1"}, args...), time.Now())
	if err != nil || verify.metrics != "a.prom" || verify.Topic != "vigie.metrics.v1" || !slices.Equal(rest, args[5:]) {
		t.Errorf("verify: got %+v, rest %q, %v", verify, rest, err)
	}
}

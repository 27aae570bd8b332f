package ingest

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/vigie-io/vigie/internal/telemetry"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
)

// call is one request on its way.
type call struct {
	*Server
	signal events.Signal
	w      *telemetry.StatusWriter
	r      *http.Request
	tenant tenants.ID
	limits tenants.Limits
	rates  *tenantRates
	now    time.Time
	body   *[]byte // decompressed; reused after the request
	lease  lease
}

func (c *call) run(p protocol) (err error) {
	if c.tenant, err = c.authenticate(c.r); err != nil {
		return err
	}
	c.limits = c.limitsOf(c.tenant)
	c.rates = c.Server.rates.of(c.tenant, &c.limits, c.now)
	// The connection has the real clock; not every writer has a connection.
	_ = http.NewResponseController(c.w).SetReadDeadline(time.Now().Add(c.config.ReadTimeout))
	if err := p.read(c); err != nil {
		return err
	}
	c.metrics.bytes.WithLabelValues(c.metrics.tenant(c.tenant)).Add(float64(len(*c.body)))
	if wait := c.rates.bytes.take(c.now, len(*c.body)); wait > 0 {
		return tooFast("bytes_per_second", c.limits.BytesPerSecond.String(), wait)
	}
	return p.handle(c)
}

func tooFast(limit, value string, wait time.Duration) error {
	f := fail(http.StatusTooManyRequests, "rate_"+limit, "over %s (%s): send again after Retry-After", limit, value)
	f.retryAfter = wait
	return f
}

// reader reads the body within this call's limits.
func (c *call) reader() *bodyReader {
	busy := fail(http.StatusServiceUnavailable, "in_flight",
		"the server holds as many events as it may (max_in_flight): send again later")
	busy.retryAfter = c.config.RetryAfter
	return &bodyReader{limits: &c.limits, lease: &c.lease, retry: busy}
}

// admitEvents charges n events to the tenant.
func (c *call) admitEvents(n int) error {
	if wait := c.rates.events.take(c.now, n); wait > 0 {
		return tooFast("events_per_second", strconv.Itoa(c.limits.EventsPerSecond), wait)
	}
	return nil
}

// publish appends values to the signal's topic; it returns when they are acknowledged. A client that hangs up
// does not stop it: half of a request's records would be in the log for nothing.
func (c *call) publish(contentType string, values []keyedValue) error {
	if len(values) == 0 {
		return nil
	}
	topic := c.topic(c.signal)
	headers := []Header{
		{HeaderTenant, []byte(c.tenant)},
		{HeaderContentType, []byte(contentType)},
		{HeaderReceived, strconv.AppendInt(nil, c.now.UnixMilli(), 10)},
	}
	records := make([]Record, len(values))
	for i, v := range values {
		records[i] = Record{Topic: topic, Key: c.key(v.shard), Value: v.value, Headers: headers}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.r.Context()), c.config.PublishTimeout)
	defer cancel()
	if err := c.publisher.Publish(ctx, records); err != nil {
		c.body = new([]byte) // the publisher may still hold it
		return err
	}
	c.metrics.records.Add(float64(len(records)))
	return nil
}

// keyedValue is the value of one record and the shard its key names.
type keyedValue struct {
	shard int
	value []byte
}

// key is the tenant, and for shards beyond the first tenant#shard.
func (c *call) key(shard int) []byte {
	key := []byte(c.tenant)
	if shard > 0 {
		key = strconv.AppendInt(append(key, '#'), int64(shard), 10)
	}
	return key
}

// tooEarlyOrLate refuses event times that the stream workers would not admit either.
func (c *call) tooEarlyOrLate(nanos int64) (events.Reason, string) {
	switch {
	case nanos < c.now.Add(-c.config.MaxPast).UnixNano():
		return events.ReasonTooOld, fmt.Sprintf("the time is %s, more than max_past (%s) ago", clock(nanos), c.config.MaxPast)
	case nanos > c.now.Add(c.config.MaxFuture).UnixNano():
		return events.ReasonTooNew,
			fmt.Sprintf("the time is %s, more than max_future (%s) ahead: check the sender's clock",
				clock(nanos), c.config.MaxFuture)
	}
	return "", ""
}

func clock(nanos int64) string { return time.Unix(0, nanos).UTC().Format(time.RFC3339Nano) }

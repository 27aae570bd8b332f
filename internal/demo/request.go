package demo

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

// network is the median of one way between two services.
const network = 300 * time.Microsecond

// request plays one visit. It begins at time 0; what happened is moved to its place in time when its length is known.
type request struct {
	random  *rand.Rand
	shop    *shop
	at      int64 // when the visit ends, Unix nanoseconds: decides versions
	traceID string
	spans   []events.Span
	logs    []events.Log
	metrics []events.Metric
}

// play runs the visit so that it ends at r.at.
func (r *request) play(op *operation) {
	r.traceID = r.id(2)
	length, _ := r.serve(op, "", 0)
	shift := r.at - length
	for i := range r.spans {
		r.spans[i].Time += shift
	}
	for i := range r.logs {
		r.logs[i].Time += shift
	}
	for i := range r.metrics {
		r.metrics[i].Time += shift
	}
}

// serve plays an operation on one instance of its service from start on.
func (r *request) serve(op *operation, parent string, start int64) (end int64, status int) {
	instance := r.random.IntN(instances)
	state := r.shop.deploys.state(op.service, instance, r.at)
	spanID := r.id(1)
	work := int64(float64(lognormal(r.random, op.own, op.spread)) * state.slower * r.shop.pace)

	at := start + work*2/5
	status = http.StatusOK
	for i := range op.calls {
		c := &op.calls[i]
		if r.random.Float64() >= c.chance {
			continue
		}
		var code int
		if at, code = r.call(op, state, instance, c, spanID, at); code >= 400 && !c.optional {
			status = answer(code)
			break
		}
	}
	end = at + work*3/5
	switch chance := r.random.Float64(); {
	case status != http.StatusOK:
	case chance < op.fails+state.failing:
		status = http.StatusInternalServerError
	case chance < op.fails+state.failing+op.refuses:
		status = http.StatusNotFound
	}
	if op.method == http.MethodPost && status == http.StatusNotFound {
		status = http.StatusUnprocessableEntity
	}

	span := r.span(op.service, instance, state, end, end-start, spanID, parent, status >= 500)
	span.Name, span.Kind, span.Route, span.StatusCode = op.method+" "+op.route, "server", op.route, status
	r.spans = append(r.spans, span)
	r.metrics = append(r.metrics, events.Metric{
		Tenant: r.shop.tenant, Time: end, Name: "http_request_duration_seconds", Kind: events.Observation,
		Value: float64(end-start) / 1e9, Unit: "seconds",
		Labels: labels("service", serviceNames[op.service], "method", op.method, "route", op.route, "status", strconv.Itoa(status), "version", state.version),
	})
	r.shop.served[op.service][instance]++
	r.log(op, instance, state, span)
	if op.service == checkout && status == http.StatusOK {
		r.order(end)
	}
	return end, status
}

// call plays a dependency, seen as a client span that lasts as long as its server and twice the network. Unlike the
// server's own span, it is an error also when the server refuses (OpenTelemetry's rule for clients).
func (r *request) call(from *operation, state state, instance int, c *call, parent string, start int64) (end int64, code int) {
	spanID := r.id(1)
	name, peer, answered := c.name, c.outside, 0
	if c.to != nil {
		name, peer = c.to.method+" "+c.to.route, serviceNames[c.to.service]
		end, code = r.serve(c.to, spanID, start+lognormal(r.random, network, 0.3))
		end += lognormal(r.random, network, 0.3)
		answered = code
	} else {
		end, code = start+lognormal(r.random, c.took, 0.5), http.StatusOK
		if r.random.Float64() < c.fails {
			code = http.StatusServiceUnavailable
		}
	}
	client := r.span(from.service, instance, state, end, end-start, spanID, parent, code >= 400)
	client.Name, client.Kind, client.Peer, client.StatusCode = name, "client", peer, answered
	r.spans = append(r.spans, client)
	return end, code
}

// answer is what a service says when a dependency it cannot do without answered code: its caller's fault stays its
// caller's fault, everything else is a bad gateway.
func answer(code int) int {
	if code < 500 {
		return code
	}
	return http.StatusBadGateway
}

func (r *request) span(service, instance int, state state, end, duration int64, id, parent string, failed bool) events.Span {
	status := "unset"
	if failed {
		status = "error"
	}
	return events.Span{
		Tenant: r.shop.tenant, Time: end, Duration: duration, Service: serviceNames[service], Status: status,
		TraceID: r.traceID, SpanID: id, ParentID: parent,
		Attributes: labels("service.instance.id", instanceName(service, instance), "service.version", state.version),
	}
}

// log writes what a service would: every failure, slow answers, refusals, and a tenth of the rest.
func (r *request) log(op *operation, instance int, state state, span events.Span) {
	took := time.Duration(span.Duration).Round(100 * time.Microsecond)
	var severity, body string
	switch {
	case span.StatusCode == http.StatusBadGateway:
		severity, body = "error", fmt.Sprintf("%s failed after %s: a dependency did not answer as it should", span.Name, took)
	case span.StatusCode >= 500:
		severity, body = "error", fmt.Sprintf("%s failed after %s: %s", span.Name, took, causes[r.random.IntN(len(causes))])
	case span.StatusCode >= 400:
		severity, body = "info", fmt.Sprintf("%s refused with %d", span.Name, span.StatusCode)
	case span.Duration > 20*int64(op.own)+int64(300*time.Millisecond):
		severity, body = "warn", fmt.Sprintf("slow: %s took %s", span.Name, took)
	case r.random.IntN(10) == 0:
		severity, body = "info", fmt.Sprintf("%s %d in %s", span.Name, span.StatusCode, took)
	case r.random.IntN(20) == 0:
		severity, body = "debug", fmt.Sprintf("cache entry %x refreshed", r.random.Uint32())
	default:
		return
	}
	r.logs = append(r.logs, events.Log{
		Tenant: r.shop.tenant, Time: span.Time, Service: span.Service, Severity: severity, Body: body,
		TraceID: r.traceID, SpanID: span.SpanID,
		Attributes: labels("service.instance.id", instanceName(op.service, instance), "service.version", state.version),
	})
}

var causes = []string{
	"connection pool exhausted: 50 of 50 in use",
	"context deadline exceeded",
	"unexpected end of JSON input",
	"nil pointer dereference in handler",
	"lock wait timeout after 2s",
}

// order counts a sale. Money is whole cents.
func (r *request) order(at int64) {
	items := 1 + r.random.IntN(5)
	cents := 0
	for range items {
		cents += 499 + r.random.IntN(60)*250
	}
	method := "card"
	switch r.random.IntN(10) {
	case 0:
		method = "invoice"
	case 1, 2, 3:
		method = "wallet"
	}
	add := func(name, unit string, kind events.Kind, value float64, ls series.Labels) {
		r.metrics = append(r.metrics, events.Metric{Tenant: r.shop.tenant, Time: at, Name: name, Kind: kind, Value: value, Unit: unit, Labels: ls})
	}
	service := serviceNames[checkout]
	add("shop_orders_total", "", events.Delta, 1, labels("service", service, "method", method))
	add("shop_revenue_cents_total", "cents", events.Delta, float64(cents), labels("service", service, "currency", "EUR"))
	add("shop_order_items", "", events.Observation, float64(items), labels("service", service))
}

// id draws a hexadecimal id of n times eight bytes.
func (r *request) id(n int) string {
	id := ""
	for range n {
		id += fmt.Sprintf("%016x", r.random.Uint64())
	}
	return id
}

func instanceName(service, instance int) string {
	return serviceNames[service] + "-" + strconv.Itoa(instance)
}

// labels makes sorted labels of names and values in turn.
func labels(namesAndValues ...string) series.Labels {
	ls := make([]series.Label, 0, len(namesAndValues)/2)
	for i := 0; i < len(namesAndValues); i += 2 {
		ls = append(ls, series.Label{Name: namesAndValues[i], Value: namesAndValues[i+1]})
	}
	sorted, err := series.Sort(ls)
	if err != nil {
		panic("BUG: demo labels: " + err.Error())
	}
	return sorted
}

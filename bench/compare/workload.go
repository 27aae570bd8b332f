package compare

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"
)

// Workload describes a log of metric events. Equal ones make equal logs, but for the time at which they begin.
type Workload struct {
	Format  string // "json", "protobuf": an event a record; "otlp": 100 data points of a tenant a record, protobuf
	Series  int
	Events  int
	Span    time.Duration // of event time
	Zipf    bool          // series are as unlike in their share of events as words of a text; else all have one share
	Churn   float64       // of the series, that many are replaced by new ones in each tenth of the span
	Hostile Hostile
	Shape   Shape
}

// Shape is whose events they look like.
type Shape string

// Shapes, all of them as Vigie's events.
const (
	Telemetry Shape = ""     // latencies with five labels, of 200 tenants
	Q12       Shape = "q12"  // Nexmark: bids by bidder, three of four by one bidder of those that are hot
	Q17       Shape = "q17"  // Nexmark: prices of bids by auction, one of two for an auction that is hot
	TSBS      Shape = "tsbs" // TSBS devops: the fields of a host one after the other, ten tags
)

// dense is how many events a second a series has at the rates that the targets are for: 150 in ten seconds.
const dense = 15

// Hostile is how a workload tries to be expensive.
type Hostile string

// What producers may do to Vigie, by mistake or not.
const (
	Tame     Hostile = ""
	Unique   Hostile = "unique"   // a label no two events share the value of, as a trace id: every event is a series
	Beyond   Hostile = "beyond"   // the same, of tenants that may have few series
	Shuffled Hostile = "shuffled" // fields and labels in another order each time
	Escaped  Hostile = "escaped"  // a letter of each value of a label spelled as a number, another one each time; JSON only
	Broken   Hostile = "broken"   // cut off within, each event; a request as a whole
	AnyTime  Hostile = "anytime"  // of any time of the two days before
)

// Shares of events that are not as they should be; the same in every log.
const (
	outOfOrder = 0.02  // up to 4 s before their turn
	late       = 0.001 // 20 to 60 s before it
	malformed  = 0.001 // cut off within
	otherOrder = 0.01  // of fields
	escaped    = 0.005 // with a character escaped
)

const (
	tenantCount = 200 // the i-th of which has series in proportion to i^-1.1
	perRecord   = 100 // data points of an OTLP record
	tenths      = 10
)

// Tally is what a log holds.
type Tally struct {
	Records, Events, Malformed int
}

// Record is one record of a log. Value is the caller's.
type Record struct {
	Tenant string
	Time   int64 // Unix milliseconds, when it was sent
	Value  []byte
}

// Last is a record of one event in JSON, of a tenant of its own.
func Last(at time.Time) Record {
	const tenant = "closing"
	value := fmt.Appendf(nil, `{"tenant":%q,"time":%d,"name":"end","value":0,"labels":{}}`, tenant, at.UnixMilli())
	return Record{tenant, at.UnixMilli(), value}
}

// source is one series, its JSON cut at time and value. In protobuf those stand first, and end is all the rest.
type source struct {
	tenant            int
	name              string
	labels            [][2]string
	head, middle, end []byte
}

type maker struct {
	w       Workload
	random  *rand.Rand
	zipf    *rand.Zipf
	sources []source
	next    int   // number of the next new series
	start   int64 // Unix milliseconds
	tally   Tally
	waiting [tenantCount][]point // of OTLP records
}

type point struct {
	series int
	time   int64
	value  float64
}

// Make calls emit with the records of the log in their order, whose first event is of the time start. It stops at the
// first error.
func (w Workload) Make(start time.Time, emit func(Record) error) (Tally, error) {
	m := &maker{w: w, random: rand.New(rand.NewPCG(1, uint64(w.Series))), start: start.UnixMilli()}
	m.zipf = rand.NewZipf(m.random, 1.01, 1, uint64(w.Series-1))
	tenants := shares()
	for len(m.sources) < w.Series {
		m.sources = append(m.sources, m.source(pick(tenants, m.random.Float64())))
	}
	if w.Shape != TSBS { // its hosts report field by field
		m.random.Shuffle(len(m.sources), func(i, j int) { m.sources[i], m.sources[j] = m.sources[j], m.sources[i] })
	}
	for i := range w.Events {
		if w.Churn > 0 && i > 0 && i%(w.Events/tenths) == 0 {
			m.churn()
		}
		if err := m.event(i, emit); err != nil {
			return m.tally, err
		}
	}
	for tenant := range m.waiting {
		if err := m.flush(tenant, emit); err != nil {
			return m.tally, err
		}
	}
	return m.tally, nil
}

// shares are the tenants' parts of the series, added up.
func shares() (sums []float64) {
	total := 0.0
	for i := range tenantCount {
		total += math.Pow(float64(i+1), -1.1)
		sums = append(sums, total)
	}
	for i := range sums {
		sums[i] /= total
	}
	return sums
}

func pick(sums []float64, at float64) int {
	for i, s := range sums {
		if at < s {
			return i
		}
	}
	return len(sums) - 1
}

var (
	names = [...]string{
		"http_request_duration_seconds", "rpc_client_duration_seconds", "db_query_duration_seconds", "queue_wait_seconds",
	}
	methods  = [...]string{"GET", "PUT", "POST", "DELETE"}
	statuses = [...]string{"200", "201", "404", "500"}
)

func (m *maker) source(tenant int) source {
	n := m.next
	m.next++
	s := m.w.Shape.source(n)
	s.tenant = tenant
	switch m.w.Format {
	case "otlp":
		return s
	case "protobuf":
		s.end = appendField(nil, 4, []byte(s.name))
		for _, l := range s.labels {
			s.end = appendField(s.end, 6, appendField(appendField(nil, 1, []byte(l[0])), 2, []byte(l[1])))
		}
		s.end = appendField(s.end, 10, []byte(tenantName(tenant)))
		return s
	}
	s.head = fmt.Appendf(nil, `{"tenant":%q,"time":`, tenantName(tenant))
	s.middle = fmt.Appendf(nil, `,"name":%q,"value":`, s.name)
	s.end = []byte(`,"labels":{`)
	for i, l := range s.labels {
		if i > 0 {
			s.end = append(s.end, ',')
		}
		s.end = fmt.Appendf(s.end, "%q:%q", l[0], l[1])
	}
	s.end = append(s.end, "}}"...)
	return s
}

// source is the n-th series of a shape, without its tenant.
func (shape Shape) source(n int) source {
	switch shape {
	case Q12:
		return source{name: "bids", labels: [][2]string{{"bidder", strconv.Itoa(1000 + n)}}}
	case Q17:
		return source{name: "bid_price", labels: [][2]string{{"auction", strconv.Itoa(1000 + n)}}}
	case TSBS:
		host := n / len(cpuFields)
		return source{name: "cpu_" + cpuFields[n%len(cpuFields)], labels: [][2]string{
			{"hostname", "host_" + strconv.Itoa(host)}, {"region", regions[host%len(regions)]},
			{"datacenter", regions[host%len(regions)] + "a"}, {"rack", strconv.Itoa(host % 100)}, {"os", "Ubuntu16.04LTS"},
			{"arch", "x64"}, {"team", "SF"}, {"service", strconv.Itoa(host % 20)}, {"service_version", strconv.Itoa(host % 2)},
			{"service_environment", "production"},
		}}
	}
	return source{name: names[n%len(names)], labels: [][2]string{
		{"service", "checkout-" + strconv.Itoa(n%50)}, {"instance", fmt.Sprintf("10.%d.%d.%d:8080", n>>16&255, n>>8&255, n&255)},
		{"route", "/api/v1/orders/" + strconv.Itoa(n>>24)}, {"method", methods[n/len(names)%len(methods)]},
		{"status", statuses[n/16%len(statuses)]},
	}}
}

var (
	cpuFields = [...]string{
		"usage_user", "usage_system", "usage_idle", "usage_nice", "usage_iowait", "usage_irq", "usage_softirq", "usage_steal",
		"usage_guest", "usage_guest_nice",
	}
	regions = [...]string{"us-east-1", "us-west-1", "eu-west-1", "ap-southeast-1", "sa-east-1"}
)

// hot are the series of which one at a time takes most of Nexmark's bids, for a hundredth of the log.
func (m *maker) hot(i int) int { return i * 100 / m.w.Events * 7 % len(m.sources) }

// which says of which series the i-th event is.
func (m *maker) which(i int) int {
	switch {
	case m.w.Shape == TSBS:
		return i % len(m.sources)
	case m.w.Shape == Q12 && m.random.IntN(4) > 0, m.w.Shape == Q17 && m.random.IntN(2) > 0:
		return m.hot(i)
	case m.w.Zipf:
		return int(m.zipf.Uint64())
	}
	return m.random.IntN(len(m.sources))
}

func tenantName(n int) string { return fmt.Sprintf("tenant-%03d", n) }

// churn replaces series by new ones of the same tenants.
func (m *maker) churn() {
	for range int(m.w.Churn * float64(len(m.sources))) {
		i := m.random.IntN(len(m.sources))
		m.sources[i] = m.source(m.sources[i].tenant)
	}
}

func (m *maker) event(i int, emit func(Record) error) error {
	r := m.random
	n := m.which(i)
	sent := m.start + int64(float64(i)*float64(m.w.Span.Milliseconds())/float64(m.w.Events))
	p := point{n, sent, m.value()}
	switch at := r.Float64(); {
	case at < outOfOrder:
		p.time -= r.Int64N(4000)
	case at < outOfOrder+late:
		p.time -= 20_000 + r.Int64N(40_000)
	}
	if m.w.Hostile == AnyTime {
		p.time -= r.Int64N(2 * 24 * time.Hour.Milliseconds())
	}
	s := &m.sources[n]
	m.tally.Events++
	if m.w.Format == "otlp" {
		m.waiting[s.tenant] = append(m.waiting[s.tenant], p)
		if len(m.waiting[s.tenant]) < perRecord {
			return nil
		}
		return m.flush(s.tenant, emit)
	}
	m.tally.Records++
	value := m.json
	if m.w.Format == "protobuf" {
		value = m.protobuf
	}
	return emit(Record{tenantName(s.tenant), sent, value(s, &p)})
}

// value is log-normal, or one in ten Pareto: as latencies are.
func (m *maker) value() float64 {
	if m.random.IntN(10) == 0 {
		return 0.05 / math.Pow(1-m.random.Float64(), 1/1.5)
	}
	return math.Exp(-3 + 1.2*m.random.NormFloat64())
}

func (m *maker) json(s *source, p *point) []byte {
	b := make([]byte, 0, len(s.head)+len(s.middle)+len(s.end)+64)
	at := m.random.Float64()
	switch {
	case m.w.Hostile == Unique, m.w.Hostile == Beyond:
		b = append(strconv.AppendInt(append(b, s.head...), p.time, 10), s.middle...)
		b = append(strconv.AppendFloat(b, p.value, 'g', 9, 64), s.end[:len(s.end)-2]...)
		return fmt.Appendf(b, `,"trace":"%s"}}`, m.trace())
	case m.w.Hostile == Shuffled:
		return m.shuffled(b, s, p)
	case m.w.Hostile == Escaped:
		return m.escaped(b, s, p)
	case m.w.Hostile == Broken, at < malformed:
		m.tally.Malformed++
		b = append(strconv.AppendInt(append(b, s.head...), p.time, 10), s.middle...)
		return append(b, s.end[:len(s.end)/2]...)
	case at < malformed+otherOrder:
		return m.shuffled(b, s, p)
	case at < malformed+otherOrder+escaped:
		b = append(strconv.AppendInt(append(b, s.head...), p.time, 10), `,"name":"\u00`...)
		b = fmt.Appendf(b, `%02x%s","value":`, s.name[0], s.name[1:])
		return append(strconv.AppendFloat(b, p.value, 'g', 9, 64), s.end...)
	}
	b = append(strconv.AppendInt(append(b, s.head...), p.time, 10), s.middle...)
	return append(strconv.AppendFloat(b, p.value, 'g', 9, 64), s.end...)
}

// trace is an id that no other event has.
func (m *maker) trace() string {
	return fmt.Sprintf("%016x%016x", m.random.Uint64(), m.random.Uint64())
}

// escaped writes the values of labels with an escape.
func (m *maker) escaped(b []byte, s *source, p *point) []byte {
	b = append(strconv.AppendInt(append(b, s.head...), p.time, 10), s.middle...)
	b = append(strconv.AppendFloat(b, p.value, 'g', 9, 64), `,"labels":{`...)
	for i, l := range s.labels {
		if i > 0 {
			b = append(b, ',')
		}
		at := m.random.IntN(len(l[1]))
		b = fmt.Appendf(b, `%q:"%s\u%04x%s"`, l[0], l[1][:at], l[1][at], l[1][at+1:])
	}
	return append(b, "}}"...)
}

// protobuf writes a vigie.v1.Events of one event, as the libraries do: fields in the order of their numbers. There is
// nothing to escape.
func (m *maker) protobuf(s *source, p *point) []byte {
	end, at := s.end, m.random.Float64()
	switch {
	case m.w.Hostile == Unique, m.w.Hostile == Beyond:
		end = appendField(slices.Clip(end), 6, appendField(appendField(nil, 1, []byte("trace")), 2, []byte(m.trace())))
	case m.w.Hostile == Shuffled, at < malformed+otherOrder && at >= malformed:
		end = nil
		for _, i := range m.random.Perm(len(s.labels)) {
			end = appendField(end, 6, appendField(appendField(nil, 1, []byte(s.labels[i][0])), 2, []byte(s.labels[i][1])))
		}
		end = appendField(appendField(end, 10, []byte(tenantName(s.tenant))), 4, []byte(s.name))
	}
	body := appendFixed(appendFixed(nil, 1, uint64(p.time)*1e6), 2, math.Float64bits(p.value))
	b := appendField(nil, 2, append(body, end...))
	if m.w.Hostile == Broken || m.w.Hostile == Tame && at < malformed {
		m.tally.Malformed++
		b = b[:len(b)/2]
	}
	return b
}

// shuffled writes fields and labels in a random order.
func (m *maker) shuffled(b []byte, s *source, p *point) []byte {
	b = append(b, '{')
	for i, field := range m.random.Perm(5) {
		if i > 0 {
			b = append(b, ',')
		}
		switch field {
		case 0:
			b = fmt.Appendf(b, `"tenant":%q`, tenantName(s.tenant))
		case 1:
			b = fmt.Appendf(b, `"time":%d`, p.time)
		case 2:
			b = fmt.Appendf(b, `"name":%q`, s.name)
		case 3:
			b = strconv.AppendFloat(append(b, `"value":`...), p.value, 'g', 9, 64)
		default:
			b = append(b, `"labels":{`...)
			for j, l := range m.random.Perm(len(s.labels)) {
				if j > 0 {
					b = append(b, ',')
				}
				b = fmt.Appendf(b, "%q:%q", s.labels[l][0], s.labels[l][1])
			}
			b = append(b, '}')
		}
	}
	return append(b, '}')
}

// flush writes the waiting data points of a tenant as one OTLP export request of gauges.
func (m *maker) flush(tenant int, emit func(Record) error) error {
	points := m.waiting[tenant]
	if len(points) == 0 {
		return nil
	}
	var gauges [len(names)][]byte
	for _, p := range points {
		s := &m.sources[p.series]
		data := appendFixed(appendFixed(nil, 3, uint64(p.time)*1e6), 4, math.Float64bits(p.value)) // time_unix_nano, as_double
		for _, l := range m.attributes(s) {
			data = appendField(data, 7, attribute(l))
		}
		at := slices.Index(names[:], s.name)
		gauges[at] = appendField(gauges[at], 1, data)
	}
	var metrics []byte
	for i, gauge := range gauges {
		if gauge != nil {
			metrics = appendField(metrics, 2, appendField(appendField(nil, 1, []byte(names[i])), 5, gauge))
		}
	}
	resource := appendField(nil, 1, attribute([2]string{"host.name", "node-1"}))
	value := appendField(nil, 1, appendField(appendField(nil, 1, resource), 2, metrics))
	m.tally.Records++
	m.waiting[tenant] = points[:0]
	if m.w.Hostile == Broken {
		m.tally.Malformed += len(points)
		value = value[:len(value)-1]
	}
	return emit(Record{tenantName(tenant), points[len(points)-1].time, value})
}

// attributes are the labels of a data point as the workload wants them.
func (m *maker) attributes(s *source) (labels [][2]string) {
	switch m.w.Hostile {
	case Unique, Beyond:
		return append(slices.Clip(s.labels), [2]string{"trace", m.trace()})
	case Shuffled:
		for _, i := range m.random.Perm(len(s.labels)) {
			labels = append(labels, s.labels[i])
		}
		return labels
	}
	return s.labels
}

func attribute(l [2]string) []byte {
	return appendField(appendField(nil, 1, []byte(l[0])), 2, appendField(nil, 1, []byte(l[1])))
}

func appendFixed(dst []byte, field byte, v uint64) []byte {
	return binary.LittleEndian.AppendUint64(append(dst, field<<3|1), v)
}

// appendField appends a field of bytes.
func appendField(dst []byte, field int, b []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(field)<<3|2)
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...)
}

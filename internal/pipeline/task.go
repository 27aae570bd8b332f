package pipeline

import (
	"strings"

	"github.com/vigie-io/vigie/internal/pipeline/alerting"
	"github.com/vigie-io/vigie/internal/pipeline/counters"
	"github.com/vigie-io/vigie/internal/pipeline/rollup"
	"github.com/vigie-io/vigie/internal/pipeline/windowed"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
	"github.com/vigie-io/vigie/pkg/sketches"
)

// TaskConfig is what a Task needs.
type TaskConfig struct {
	Partition Partition
	Signal    events.Signal
	Config    Config // valid

	// Decoder reads records. Nil is one with each tenant's limits of labels; a tenant that only the record's value
	// names has the defaults'.
	Decoder *events.Decoder
	// Limits are those of tenants; it is asked between epochs, so that one epoch knows one set of them. The result is
	// not to be changed. Nil is the defaults of package tenants.
	Limits func() *tenants.Config
	// Scratch is memory that tasks of one goroutine share. Nil gives the task its own.
	Scratch *Scratch
	// Increases gets the metrics that rollups of measure increase take, each once and in their place: such metrics have
	// to come in order, which a file does not promise. What it gets is valid during the call. Nil leaves them to the
	// rollups.
	Increases func(m *events.Metric)

	watch *stopwatch // measures stages; nil measures nothing
}

// Scratch is memory to decode into. Tasks that one goroutine steps may share one.
type Scratch struct {
	records [runRecords]Record
	batches [runRecords]events.Batch
	headers [runRecords]sourceHeaders
	looks   [runRecords]events.Look
	looker  events.Looker
	ahead   []ahead
}

// Task owns one source partition and everything derived from it since the last committed epoch, and remembers the
// series that are active. One goroutine uses it. It has no clock: processing time is passed in, in Unix milliseconds.
// The same calls give the same outputs, bit for bit.
//
// Its life is Restore…, and then rounds of Step… → Drain → Committed, or Step… → (Drain →) Forget when the epoch is
// aborted.
type Task struct {
	cfg     TaskConfig
	tenants map[string]*tenant
	current *tenant // of the last event
	claims  claims
	dirty   []*tenant
	epoch   gathered
	reach   Reach
	there   int64 // offset up to which the log was known to go when the epoch began
	// assignment is that of reach when the state was restored.
	assignment uint64
	held       bool  // it must not publish progress in the epoch that ends (fences)
	published  int64 // Reach.Through of the last committed progress
	publishing int64 // the same of the epoch that ends

	rollups    []*rollup.Rule // declared for the signal
	declares   bool           // it has rollups or alerts
	fields     fields
	particular windowed.Particular // of the event at hand, for the rollup at hand
	windows    *windowed.Windows
	clocks     clocks
	counters   counters.Counters
	alerts     *alerting.Alerts
	limits     *tenants.Config // in force for the epoch
	decoders   decoders
	rates      *rates

	limiting  []*tenant // whose use of limits is reported with the epoch
	exceeding []*tenant // with events beyond the limit of series, since the last drain

	operators []operator
	reading   reading
	resting   map[string]int64 // newest event times of tenants without series, of committed epochs
	gone      []string         // tenants to be removed from resting in the log

	announcing []*entry
	drained    int64 // processing time of the last drain
	swept      int64 // and of the last sweep for idle series

	tally       Tally
	written     uint64 // dead letters of committed epochs
	dropped     uint64 // events over a limit, of committed epochs
	letters     []Message
	letterBytes int64
	letterRows  letterRows
	arena       arena // of letters

	now     int64
	fetched uint64 // of no meaning: what is read ahead has to go somewhere
	offset  int64  // of the record at hand
	admit   admission

	cells      paged[cell]                  // panes of series that are not the one in place
	scattered  map[*entry]map[uint32]uint32 // cells, by their start, of series that have many
	lists      paged[further]               // of cells
	sketches   paged[sketches.Sketch]
	histograms paged[[]byte]
	ordered    []*cell        // of the series at hand
	sorted     []sortedSeries // of the service group at hand
	merged     []*pane
	merging    pool[pane]

	words   words       // of groups
	groups  slab[group] // of all tenants
	key     []byte
	values  []sketches.Bucket
	labels  []series.Label
	known   series.Labels // of the known event at hand
	hist    []byte
	refused []refusal
}

// NewTask returns an empty task.
func NewTask(cfg TaskConfig) *Task {
	if cfg.Limits == nil {
		limits := tenants.DefaultConfig()
		cfg.Limits = func() *tenants.Config { return &limits }
	}
	if cfg.Scratch == nil {
		cfg.Scratch = new(Scratch)
	}
	t := &Task{
		cfg: cfg, tenants: make(map[string]*tenant),
		rollups: rollup.Of(cfg.Config.Rollups, cfg.Signal),
		reach:   Reach{Partition: cfg.Partition, Signal: cfg.Signal}, resting: make(map[string]int64), limits: cfg.Limits(),
	}
	t.decoders = newDecoders(cfg.Decoder)
	t.rates = newRates(t.limits, cfg.Config.MaxTenants)
	t.windows = windowed.New(rollup.Windows(t.rollups), t.limits)
	t.clocks = newClocks(&t.cfg.Config)
	alertRules := alerting.Of(cfg.Config.Alerts, cfg.Signal)
	t.declares = len(t.rollups)+len(alertRules) > 0
	t.alerts = alerting.New(alertRules, func(tenant string) int { return t.limits.For(tenants.ID(tenant)).OpenWindows })
	counted := rollup.Counters(t.rollups)
	for _, r := range alertRules {
		counted = append(counted, rollup.Counters([]*rollup.Rule{r.Rollup})...)
	}
	t.counters = counters.New(cfg.Config.SeriesIdle, func(tenant string) (series int, bytes int64) {
		l := t.limits.For(tenants.ID(tenant))
		return l.ActiveSeries, int64(l.SeriesBytes)
	}, counted)
	t.operators = []operator{
		{(*watermarks)(t), kindWatermark, watermarkVersion}, {t.windows, kindWindows, windowed.Version},
		{(*position)(t), kindPosition, positionVersion}, {&t.clocks, kindClock, clockVersion},
		{t.rates, kindRates, ratesVersion}, {&t.counters, kindCounters, counters.Version},
		{t.alerts, kindAlerts, alerting.Version},
	}
	return t
}

// Step decodes, admits and accumulates the records of chunk, which is of the task's partition. It keeps nothing of it.
func (t *Task) Step(chunk *Chunk, now int64) {
	t.now, t.admit = now, newAdmission(&t.cfg.Config, now)
	t.advance(chunk)
	t.claims.follow(t.rates.changes)
	for n, rest := 0, chunk.Records; ; n++ {
		if len(rest) == 0 {
			if rest = chunk.more(t.cfg.Scratch.records[:]); len(rest) == 0 {
				break
			}
		}
		run := rest[:runLength(rest)]
		split := t.cfg.watch.split(n%sampledRuns == 0)
		t.decode(run)
		t.readAhead(run)
		split.half()
		for i := range run {
			h := &t.cfg.Scratch.headers[i]
			if l := &t.cfg.Scratch.looks[i]; l.Known() {
				t.recognized(&run[i], h, l)
			} else {
				t.record(&run[i], h, h.batch)
			}
		}
		split.end()
		rest = rest[len(run):]
	}
	t.cfg.watch.lapSplit(stageDecode, stageAccumulate)
}

const (
	runRecords = 32      // records decoded before the first of them is accumulated
	largeValue = 1 << 15 // bytes; a record above has a run of its own, so that only one batch grows with it

	// sampledRuns is how many runs share one measurement: asking for a thread's time takes as long as an event does.
	sampledRuns = 16
)

// runLength is how many of the records are decoded together: few enough to stay in the caches.
func runLength(records []Record) int {
	bytes := 0
	for i := range records {
		if bytes += len(records[i].Value); i > 0 && (i == runRecords || bytes > largeValue) {
			return i
		}
	}
	return len(records)
}

// decode looks at all records of a run first: most are one event that is known.
func (t *Task) decode(run []Record) {
	scratch := t.cfg.Scratch
	looks := scratch.looks[:len(run)]
	src := events.Source{Signal: t.cfg.Signal}
	for i := range run {
		t.look(&run[i], &scratch.headers[i], &looks[i], &src)
	}
	scratch.looker.Recognize(looks)
	batch := 0 // the first ones are used most, and have seen most of how events are written
	for i := range run {
		h := &scratch.headers[i]
		if h.batch = &scratch.batches[batch]; !looks[i].Known() && h.barred == nil {
			batch++
			r := &run[i]
			fill(&src, r, h)
			src.Repeats, src.Look = nil, nil
			if h.known != nil {
				src.Repeats, src.Look = h.known.repeats, &looks[i]
			}
			t.decoders.of(claimed(r, h), h.claimant, t.limits).Decode(h.batch, src)
		}
	}
}

// look reads the headers of a record, and time and value of what may be a known event.
func (t *Task) look(r *Record, h *sourceHeaders, l *events.Look, src *events.Source) {
	h.read(r)
	h.claimant, h.meter = t.claimant(r, h)
	if h.known = t.knows(h); h.known == nil {
		*l = events.Look{}
		return
	}
	src.ContentType, src.Value, src.Timestamp, src.Repeats = h.contentType, r.Value, r.Timestamp, h.known.repeats
	h.known.decoder.Begin(&t.cfg.Scratch.looker, l, src)
}

// recognized takes a record that is one event of a series that the tenant has.
func (t *Task) recognized(r *Record, h *sourceHeaders, l *events.Look) {
	tn := h.known
	t.offset = r.Offset
	t.tally.Records++
	t.tally.Bytes += uint64(len(r.Key) + len(r.Value))
	if t.overRate(r, h, tn.name, 1) {
		return
	}
	t.refused = t.refused[:0]
	t.repeat(tn, &l.Repeat)
	if l.NoTime {
		t.tally.NoTime++
	}
	if len(t.refused) > 0 {
		t.refuse(r, h, tn.name, 1)
	}
}

// record takes one decoded record.
func (t *Task) record(r *Record, h *sourceHeaders, b *events.Batch) {
	t.offset = r.Offset
	t.tally.Records++
	t.tally.Bytes += uint64(len(r.Key) + len(r.Value))
	t.refused = t.refused[:0]
	if t.overRate(r, h, tenantOf(b, r, h), weight(h, b)) {
		return
	}
	if h.barred != nil {
		t.refused = append(t.refused, *h.barred)
		t.refuse(r, h, authority(r, h), 0)
		return
	}
	for i := range b.Rejects {
		if reject := &b.Rejects[i]; reject.Index < 0 || h.only.has(reject.Index) {
			t.refused = append(t.refused, refusal{reject.Index, reject.Reason, rejectDetail(reject)})
		}
	}
	t.metrics(h, b)
	for i := range b.Spans {
		if s, index := &b.Spans[i], b.SpanIndex[i]; t.wanted(h.only, index, s.Time) {
			t.span(s)
			if t.declares {
				t.declareSpan(s)
			}
		}
	}
	for i := range b.Logs {
		if l, index := &b.Logs[i], b.LogIndex[i]; t.wanted(h.only, index, l.Time) {
			t.log(l)
			if t.declares {
				t.declareLog(l)
			}
		}
	}
	if h.only == nil {
		t.tally.NoTime += uint64(b.NoTime)
		t.tally.Stale += uint64(b.Stale)
		t.tally.Coarse += uint64(b.Coarse)
	}
	if len(t.refused) > 0 {
		tenant := tenantOf(b, r, h)
		if h.claimant == nil {
			tenant = strings.Clone(tenant)
		}
		t.refuse(r, h, tenant, b.Events)
	}
}

// overRate says whether the record of n events is more than its tenant may send, which drops it with all its events,
// counted. The bad ones, too: dead letters would double a flood.
func (t *Task) overRate(r *Record, h *sourceHeaders, tenant string, n int) bool {
	m := h.meter
	if m == nil {
		if m = t.rates.of(tenant, r.Key); m == nil {
			return false
		}
		t.claims.claim(r.Key, h.claimant, m)
	}
	t.rates.use(m, t.now)
	reason := m.take(r.Timestamp, uint64(n), uint64(len(r.Key)+len(r.Value)))
	if reason == "" {
		return false
	}
	t.tally.dropped(m.key.tenant, reason, n)
	return true
}

// weight is how many events a record counts for, at least one.
func weight(h *sourceHeaders, b *events.Batch) int {
	switch {
	case h.only != nil:
		return len(h.only)
	case h.barred != nil:
		return 1
	}
	return max(b.Events, 1)
}

func rejectDetail(r *events.Reject) string {
	if r.Field == "" || strings.HasPrefix(r.Detail, r.Field) {
		return r.Detail
	}
	return r.Field + ": " + r.Detail
}

// tenantOf names the tenant of a record, "" when the record does not. All its events have one tenant. The name may be
// the batch's.
func tenantOf(b *events.Batch, r *Record, h *sourceHeaders) string {
	switch {
	case h.claimant != nil:
		return h.claimant.name
	case h.barred != nil: // the batch is an older record's
	case len(b.Metrics) > 0:
		return b.Metrics[0].Tenant
	case len(b.Spans) > 0:
		return b.Spans[0].Tenant
	case len(b.Logs) > 0:
		return b.Logs[0].Tenant
	}
	return authority(r, h)
}

// wanted says whether to take the event with this index and time, and notes the refusal of one that is out of time.
func (t *Task) wanted(only onlyEvents, index int, time int64) bool {
	if only != nil && !only.has(index) {
		return false
	}
	if t.admit.admits(time) {
		return true
	}
	if n := len(t.refused); n > 0 && t.refused[n-1].index == index {
		return false // another sample of the same data point
	}
	reason, detail := t.admit.refusal(&t.cfg.Config, time)
	t.refused = append(t.refused, refusal{index, reason, detail})
	return false
}

// refuse counts the refusals of the record at hand, of events in all, and writes its dead letter.
func (t *Task) refuse(r *Record, h *sourceHeaders, tenant string, events int) {
	t.refused = settle(t.refused)
	for i := range t.refused {
		t.tally.refuse(tenant, t.refused[i].reason)
	}
	letter := deadLetter(&t.arena, &t.cfg.Config, t.cfg.Partition, r, t.refused, events, h.only)
	t.tally.Letters++
	if letter.Value == nil && (r.Value != nil || r.BadBatch != nil) {
		t.tally.Omitted++
	}
	t.letterBytes += letter.size()
	t.letters = append(t.letters, letter)
	t.addLetter(r, h, tenant)
}

// identity is a series as an event names it; its strings may be a Batch's.
type identity struct {
	kind       events.Kind
	metric     string
	labels     series.Labels
	unit, help string
}

// series finds the tenant and series of an event, or makes them. The entry is nil when a limit forbids it; that is
// counted.
func (t *Task) series(name string, s identity) (tn *tenant, ref uint32, e *entry) {
	tn = t.named(name)
	if tn == nil {
		return nil, 0, nil
	}
	t.key = series.AppendKey(t.key[:0], byte(s.kind), s.metric, s.labels)
	if ref, ok := tn.table.Find(t.key); ok {
		return tn, ref, tn.table.At(ref)
	}
	ref, e = t.newSeries(tn, &s)
	return tn, ref, e
}

// named finds the tenant of an event, or makes it. It is nil when there are too many; that is counted.
func (t *Task) named(name string) *tenant {
	if tn := t.current; tn != nil && tn.name == name {
		return tn
	}
	tn := t.tenant(name)
	if tn != nil {
		t.current = tn
	}
	return tn
}

func (t *Task) tenant(name string) *tenant {
	if tn := t.find(name); tn != nil {
		return tn
	}
	if len(t.tenants) >= t.cfg.Config.MaxTenants {
		t.tally.drop("", ReasonTenantLimit)
		return nil
	}
	name = strings.Clone(name)
	tn := &tenant{name: name, groups: make(map[groupKey]*group), seen: t.now}
	tn.bound(t.limits, &t.decoders)
	(*watermarks)(t).wake(tn)
	t.tenants[name] = tn
	return tn
}

// newSeries makes the entry of a new series, whose key is t.key.
func (t *Task) newSeries(tn *tenant, s *identity) (ref uint32, e *entry) {
	size := namesBytes(t.key, about{s.unit, s.help})
	if tn.table.Len() >= tn.limit || tn.bytes+size > tn.limitBytes {
		t.exceed(tn)
		return 0, nil
	}
	tn.bytes += size
	tn.repeats.Expect()
	id := series.Hash(t.key)
	ref, _ = tn.table.Insert(t.key, id.Lo)
	key := groupKey{metric: s.metric, service: s.labels.Get("service"), kind: s.kind}
	g := tn.groups[key]
	if g == nil {
		key.metric, key.service = t.words.copy(key.metric), t.words.copy(key.service)
		g = t.groups.take()
		g.groupKey, g.dirty = key, g.few[:0]
		tn.groups[key] = g
	}
	g.size++
	e = tn.table.At(ref)
	e.high, e.class = id.Hi, tn.classes.join(g, about{s.unit, s.help})
	return ref, e
}

// exceed counts an event beyond the tenant's limits of series.
func (t *Task) exceed(tn *tenant) {
	tn.seen = t.now
	if tn.beyond == (beyond{}) {
		t.exceeding = append(t.exceeding, tn)
	}
	if tn.table.Len() >= tn.limit {
		tn.beyond.number++
	} else {
		tn.beyond.bytes++
	}
}

// take notes an event of a series and returns the cell to put it in.
func (t *Task) take(tn *tenant, ref uint32, e *entry, time int64) *cell {
	t.tally.Events++
	if time < t.watermark(tn) {
		tn.late++
	}
	return t.into(tn, ref, e, time)
}

// into is take for what is derived from an event that has been counted.
func (t *Task) into(tn *tenant, ref uint32, e *entry, time int64) *cell {
	t.epoch.values++
	tn.seen, e.touched = t.now, t.now
	before, second := paneOf(e.seen), uint32(time/1e9)
	e.seen = max(e.seen, second)
	tn.newest = max(tn.newest, time)
	t.tally.Newest = max(t.tally.Newest, time)
	return t.open(tn, ref, e, paneOf(second), before)
}

// SetReach says how far the partition has been polled. It counts once everything polled has been stepped.
func (t *Task) SetReach(r Reach) {
	t.reach = r
	t.reading.next = max(t.reading.next, r.Next)
}

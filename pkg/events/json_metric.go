package events

// metric decodes the metric event whose brace is behind pos.
func (w *work) metric(index int) bool {
	s, b := w.s, w.out
	start := s.pos - 1
	var time, value [2]int // where they stand
	b.Metrics = append(b.Metrics, Metric{})
	m := &b.Metrics[len(b.Metrics)-1]
	at := s.keys.fields.start()
	for first := true; ; first = false {
		key, more, ok := s.nextKey(first, &at)
		if !ok {
			return false
		}
		if !more {
			break
		}
		switch key {
		case "tenant":
			s.enter("tenant", fieldTenant)
			ok = s.string(&m.Tenant)
		case "time":
			s.enter("time", fieldTime)
			time[0] = s.pos
			ok = s.time(&m.Time)
			time[1] = s.pos
		case "start":
			s.enter("start", fieldStart)
			ok = s.time(&m.Start)
		case "name":
			s.enter("name", fieldName)
			ok = s.string(&m.Name)
		case "kind":
			s.enter("kind", fieldKind)
			ok = w.kind(&m.Kind)
		case "value":
			s.enter("value", fieldValue)
			value[0] = s.pos
			ok = s.float(&m.Value)
			value[1] = s.pos
		case "labels":
			s.enter("labels", fieldLabels)
			ok = w.labels(&m.Labels)
		case "unit":
			s.enter("unit", fieldUnit)
			ok = s.string(&m.Unit)
		case "help":
			s.enter("help", fieldHelp)
			ok = s.string(&m.Help)
		case "histogram":
			s.enter("histogram", fieldHistogram)
			ok = w.histogram(&m.Histogram)
		case "stale":
			s.enter("stale", fieldStale)
			ok = s.boolean(&m.Stale)
		default:
			ok = s.skip(1)
		}
		if !ok {
			return false
		}
	}
	if w.endMetric(index) && m.Histogram == nil && !m.Stale && w.src.Repeats != nil && !s.has(fieldStart) {
		w.learnable(m, start, time, value)
	}
	return true
}

// endMetric takes the last of the batch's metrics, whose fields have been read, or says false when something is wrong
// with it.
func (w *work) endMetric(index int) bool {
	b := w.out
	m := &b.Metrics[len(b.Metrics)-1]
	w.checkMetric(m)
	if w.s.fault.reason != "" {
		return false
	}
	w.countNoTime()
	if m.Histogram != nil {
		w.countCoarse(m)
	}
	b.MetricIndex = append(b.MetricIndex, index)
	return true
}

// checkMetric looks at the event as a whole, once all its fields are known.
func (w *work) checkMetric(m *Metric) {
	s := w.s
	m.Tenant = w.agree(m.Tenant)
	w.eventTime(&m.Time)
	w.required("name", m.Name)
	w.bounded("name", m.Name, w.opts.MaxName)
	w.bounded("unit", m.Unit, w.opts.MaxName)
	w.bounded("help", m.Help, w.opts.MaxValue)
	switch {
	case m.Stale:
		w.checkStale(m)
	case !s.has(fieldValue) && m.Histogram == nil:
		s.field = "value"
		s.refuse(ReasonMissing, "a metric needs a value (a number), a histogram or stale")
	case s.has(fieldValue) && m.Histogram != nil:
		s.field = "value"
		s.refuse(ReasonBadHistogram, "a metric has a value or a histogram, not both")
	case m.Histogram != nil && m.Histogram.Scale == CustomScale && m.Kind != Gauge && m.Kind != Cumulative:
		s.field = "kind"
		s.refuse(ReasonBadHistogram,
			"a histogram with bounds is kept as it is, not merged: want kind gauge or cumulative, got "+m.Kind.String())
	}
}

// checkStale is about the end of a series.
func (w *work) checkStale(m *Metric) {
	s := w.s
	switch {
	case s.has(fieldValue) || m.Histogram != nil:
		s.field = "stale"
		s.refuse(ReasonDuplicateField, "a metric has a value or a histogram, or is stale; leave one")
	case m.Kind != Gauge && m.Kind != Cumulative:
		s.field = "kind"
		s.refuse(ReasonUnknownWord, "only series of kind gauge or cumulative go stale, got "+m.Kind.String())
	}
}

// kind reads a metric's kind.
func (w *work) kind(dst *Kind) bool {
	s := w.s
	c := s.space()
	if c != '"' {
		return s.other(c, "a text: "+kindList)
	}
	text, ok := s.text()
	if !ok {
		return false
	}
	kind, known := kindOf(text)
	if *dst = kind; !known {
		s.refuse(ReasonUnknownWord, "want "+kindList+", got "+quoted(text))
	}
	return true
}

package ingest

import (
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

// Prometheus remote write, specifications 1.0 and 2.0. Whatever is taken becomes JSON metric events.

const (
	messageV1 = "prometheus.WriteRequest"
	messageV2 = "io.prometheus.write.v2.Request"
	// shownErrors is how many refused samples a 400 names: Prometheus logs the answer's first line only.
	shownErrors = 5
)

func remoteWriteProtocol() protocol {
	return protocol{signal: events.Metrics, read: readRemoteWrite, handle: handleRemoteWrite, refuse: refuseRemoteWrite}
}

func readRemoteWrite(c *call) error {
	if _, err := messageOf(c.r); err != nil {
		return err
	}
	// Without the header it is taken for granted, as Prometheus' own receiver does.
	if encoding := c.r.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "snappy") {
		return fail(http.StatusUnsupportedMediaType, "content_encoding",
			"Content-Encoding is %q: remote write is snappy", encoding)
	}
	return c.reader().readSnappy(c.body, c.w.ResponseWriter, c.r)
}

// messageOf returns the message that Content-Type names; 1.0 when it names none.
func messageOf(r *http.Request) (string, error) {
	header := r.Header.Get("Content-Type")
	if header == "" {
		return messageV1, nil
	}
	media, parameters, err := mime.ParseMediaType(header)
	proto := parameters["proto"]
	if err == nil && media == "application/x-protobuf" {
		switch proto {
		case "":
			return messageV1, nil
		case messageV1, messageV2:
			return proto, nil
		}
	}
	return "", fail(http.StatusUnsupportedMediaType, "content_type",
		"Content-Type is %q: want application/x-protobuf with proto=%s or proto=%s", header, messageV1, messageV2)
}

// writer turns the series of one request into events.
type writer struct {
	*call
	batcher *batcher
	series  writeSeries
	symbols []string
	metric  events.Metric
	hist    events.Histogram
	labels  []series.Label

	index               int // of the sample or histogram
	samples, histograms int // taken
	nan                 int // samples that say there is no value: handled, nothing to write
	exemplars           int
	rejects             []events.Reject
}

var writerPool = sync.Pool{New: func() any { return new(writer) }}

func handleRemoteWrite(c *call) error {
	message, _ := messageOf(c.r)
	w := writerPool.Get().(*writer)
	w.start(c)
	defer w.stop()
	if message == messageV2 {
		c.confirm(0, 0) // until it is otherwise
	}
	if err := w.decode(message); err != nil {
		return fail(http.StatusBadRequest, "bad_protobuf", "decode %s: %v", message, err)
	}
	if err := c.admitEvents(w.index); err != nil {
		return err
	}
	if err := c.publish("application/json", w.batcher.values()); err != nil {
		return err
	}
	w.batcher.release()
	w.count()
	if message == messageV2 {
		c.confirm(w.samples+w.nan, w.histograms)
	}
	if len(w.rejects) > 0 {
		w.answerPartial()
		return nil
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

func (w *writer) start(c *call) {
	*w = writer{call: c, batcher: newBatcher(c), series: w.series, symbols: w.symbols, hist: w.hist,
		labels: w.labels, rejects: w.rejects[:0]}
}

func (w *writer) stop() {
	w.call, w.batcher = nil, nil
	if cap(w.symbols) > 1<<16 || cap(w.rejects) > 1<<12 {
		return // one giant request must not stay in memory
	}
	writerPool.Put(w)
}

func (w *writer) decode(message string) (err error) {
	if message == messageV2 {
		w.symbols, err = decodeWrite2(*w.body, w.symbols, &w.series, func(s *writeSeries) { w.take(s, true) })
		return err
	}
	return decodeWrite1(*w.body, &w.series,
		func(s *writeSeries) { w.take(s, false) },
		func(m writeMetadata) { w.metadata.learn(w.tenant, m, &w.limits) })
}

// confirm tells a 2.0 sender what was written. Samples without a value count as written: they were understood,
// and there is nothing more to do for them.
func (c *call) confirm(samples, histograms int) {
	h := c.w.Header()
	h.Set("X-Prometheus-Remote-Write-Samples-Written", strconv.Itoa(samples))
	h.Set("X-Prometheus-Remote-Write-Histograms-Written", strconv.Itoa(histograms))
	h.Set("X-Prometheus-Remote-Write-Exemplars-Written", "0")
}

func (w *writer) count() {
	w.metrics.outcome(w.tenant, events.Metrics, w.samples+w.histograms, w.rejects)
	w.metrics.skip(w.tenant, skippedNaN, w.nan)
	w.metrics.skip(w.tenant, skippedExemplar, w.exemplars)
}

// answerPartial answers 400, which both specifications ask for when some samples can never be written; senders
// do not repeat it. The good ones have been written.
func (w *writer) answerPartial() {
	w.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.w.WriteHeader(http.StatusBadRequest)
	text := fmt.Appendf(nil, "%d of %d samples refused, the others are written", len(w.rejects), w.index)
	for i := range w.rejects[:min(len(w.rejects), shownErrors)] {
		r := &w.rejects[i]
		text = fmt.Appendf(text, "; sample %d: %s: %s", r.Index, r.Reason, r.Detail)
	}
	_, _ = w.w.Write(append(text, '\n')) // the client has gone: nobody to tell
}

func refuseRemoteWrite(c *call, f *failure) {
	c.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	c.w.WriteHeader(f.status)
	_, _ = io.WriteString(c.w, f.message+"\n") // the client has gone: nobody to tell
}

package pipeline

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
)

// sourceHeaders are the headers of a source record that mean something here. Their texts are the record's bytes.
type sourceHeaders struct {
	tenant      string
	contentType string
	only        onlyEvents
	barred      *refusal // of the whole record, without a look at its value

	claimant *tenant // that is named outside of the value; nil when it is none of the task's
	meter    *meter  // its; nil when that has to be looked for
	known    *tenant // the claimant when repeated events of it may be known

	batch  *events.Batch // what the record decodes to; of no meaning when it need not be decoded
	search int           // number of the search for the record's only event, plus one; 0: there is none
}

// read reads the headers of r; of several with one key the last counts.
func (h *sourceHeaders) read(r *Record) {
	*h = sourceHeaders{}
	if r.BadBatch != nil {
		h.barred = &refusal{-1, ReasonBadBatch, r.BadBatch.Why}
	}
	for i := range r.Headers {
		header := &r.Headers[i]
		switch key := header.Key; {
		case strings.EqualFold(key, HeaderTenant):
			h.tenant = view(header.Value)
		case strings.EqualFold(key, HeaderContentType):
			h.contentType = view(header.Value)
		case strings.EqualFold(key, HeaderOnly):
			var ok bool
			if h.only, ok = parseOnly(string(header.Value)); !ok {
				h.barred = &refusal{-1, ReasonBadReplayHeader,
					"header " + HeaderOnly + ": want event indexes separated by commas"}
			}
		}
	}
}

// onlyEvents are the indexes of the events that a replayed record stands for, ascending; nil is all of them.
type onlyEvents []int

// parseOnly reads "3,17". An empty header is a mistake: it would make a record stand for nothing.
func parseOnly(s string) (only onlyEvents, ok bool) {
	for part := range strings.SplitSeq(s, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(part))
		if err != nil || n < 0 {
			return nil, false
		}
		only = append(only, n)
	}
	slices.Sort(only)
	return slices.Compact(only), true
}

func (only onlyEvents) has(index int) bool {
	if only == nil {
		return true
	}
	_, found := slices.BinarySearch(only, index)
	return found
}

// authority names the tenant a record claims to be of, for counters: "" when it claims none that is valid.
func authority(r *Record, h *sourceHeaders) string {
	name := claimed(r, h)
	if tenants.Validate(tenants.ID(name)) != nil {
		return ""
	}
	return strings.Clone(name)
}

// claimed is the tenant that a record names outside of its value, right or wrong. It may be the record's bytes.
func claimed(r *Record, h *sourceHeaders) string {
	if h.tenant != "" {
		return h.tenant
	}
	key, _, _ := bytes.Cut(r.Key, []byte{'#'})
	return view(key)
}

func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// bytesOf are the bytes of s, only to be read.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// fill makes of a source of the same signal what the decoder wants of a record.
func fill(src *events.Source, r *Record, h *sourceHeaders) {
	src.ContentType, src.Key, src.Tenant, src.Value, src.Timestamp = h.contentType, r.Key, h.tenant, r.Value, r.Timestamp
}

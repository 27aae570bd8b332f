package events

// Reasons, grouped by what is at fault. They are metric labels, DLQ headers and part of HTTP answers: a name
// never changes its meaning. Reasons lists them all.
const (
	// ReasonTombstone is a Kafka record without a value (compaction's deletion mark): it says nothing here.
	ReasonTombstone Reason = "tombstone"
	// ReasonEmpty is a record of no bytes, or of white space only.
	ReasonEmpty Reason = "empty_record"
	// ReasonRecordTooLarge is a record over Options.MaxRecord bytes; it is not looked into.
	ReasonRecordTooLarge Reason = "record_too_large"
	// ReasonTooManyEvents refuses what comes after the first Options.MaxEvents events of a record.
	ReasonTooManyEvents Reason = "too_many_events"
	// ReasonContentType is a content-type header that names neither JSON nor protobuf.
	ReasonContentType Reason = "unsupported_content_type"
	// ReasonWrongSignal is an OTLP request, or an event in protobuf, of another signal than the topic's or path's.
	ReasonWrongSignal Reason = "wrong_signal"

	// ReasonBadJSON is a record or event that is not JSON.
	ReasonBadJSON Reason = "bad_json"
	// ReasonBadProtobuf is a vigie.v1.Events, or an event in one, that is not protobuf.
	ReasonBadProtobuf Reason = "bad_protobuf"
	// ReasonBadOTLP is an OTLP request, protobuf or JSON, that does not decode.
	ReasonBadOTLP Reason = "bad_otlp"
	// ReasonTooDeep is an event nested deeper than Options.MaxDepth.
	ReasonTooDeep Reason = "too_deep"
	// ReasonInvalidUTF8 is a text that is not UTF-8, or a \u escape that is half a surrogate pair.
	ReasonInvalidUTF8 Reason = "invalid_utf8"

	// ReasonMissing is an event without a field its signal requires.
	ReasonMissing Reason = "missing_field"
	// ReasonDuplicateField is a field of the contract that one object holds twice.
	ReasonDuplicateField Reason = "duplicate_field"
	// ReasonWrongType is a field whose type in JSON or protobuf is not the contract's, such as a number in quotes.
	ReasonWrongType Reason = "wrong_type"
	// ReasonUnknownWord is a word outside a field's list (kind, status).
	ReasonUnknownWord Reason = "unknown_word"
	// ReasonTooLong is a name or text over its limit in bytes.
	ReasonTooLong Reason = "too_long"

	// ReasonNotFinite is a NaN or an infinity, in any spelling.
	ReasonNotFinite Reason = "not_finite"
	// ReasonNumberRange is a number outside its field's range.
	ReasonNumberRange Reason = "number_range"
	// ReasonBadTime is a time that cannot be read.
	ReasonBadTime Reason = "bad_time"
	// ReasonTooOld is an event time before 1970 (found here) or before the accepted past (found by the
	// pipeline, which has a clock).
	ReasonTooOld Reason = "too_old"
	// ReasonTooNew is an event time after 2262-04-11 (found here) or beyond the accepted future (found by
	// the pipeline).
	ReasonTooNew Reason = "too_new"
	// ReasonBadDuration is a duration that cannot be read, is negative, or is over 292 years.
	ReasonBadDuration Reason = "bad_duration"
	// ReasonBadHistogram is a histogram that contradicts itself.
	ReasonBadHistogram Reason = "bad_histogram"

	// ReasonTooManyLabels is an event with more labels (or attributes) than the limit.
	ReasonTooManyLabels Reason = "too_many_labels"
	// ReasonDuplicateLabel is a label name that one event holds twice.
	ReasonDuplicateLabel Reason = "duplicate_label"
	// ReasonBadLabel is an empty label name, or the reserved __name__.
	ReasonBadLabel Reason = "bad_label"

	// ReasonTenantMissing is an event whose tenant neither credential, header, key nor payload tells.
	ReasonTenantMissing Reason = "tenant_missing"
	// ReasonTenantInvalid is a tenant that is not a tenant id.
	ReasonTenantInvalid Reason = "tenant_invalid"
	// ReasonTenantMismatch is a payload tenant that is not the record's.
	ReasonTenantMismatch Reason = "tenant_mismatch"
	// ReasonTenantUnknown is a well-formed tenant that is not configured (found by the pipeline).
	ReasonTenantUnknown Reason = "tenant_unknown"
)

// Reasons returns every reason there is, in a fixed order, so that counters can be made before they count.
func Reasons() []Reason {
	return []Reason{
		ReasonTombstone, ReasonEmpty, ReasonRecordTooLarge, ReasonTooManyEvents, ReasonContentType, ReasonWrongSignal,
		ReasonBadJSON, ReasonBadProtobuf, ReasonBadOTLP, ReasonTooDeep, ReasonInvalidUTF8,
		ReasonMissing, ReasonDuplicateField, ReasonWrongType, ReasonUnknownWord, ReasonTooLong,
		ReasonNotFinite, ReasonNumberRange, ReasonBadTime, ReasonTooOld, ReasonTooNew, ReasonBadDuration, ReasonBadHistogram,
		ReasonTooManyLabels, ReasonDuplicateLabel, ReasonBadLabel,
		ReasonTenantMissing, ReasonTenantInvalid, ReasonTenantMismatch, ReasonTenantUnknown,
	}
}

package coarse

// Destinations of merged records: the ingest tables, one record = one block = one INSERT. They have the headers of
// result records.
const (
	TableMinutes  = "ingest_minutes"
	TableProgress = "ingest_coarse_progress"
	TableMerged   = "ingest_merged"
)

// Position is how far a results partition has been merged.
type Position struct {
	Topic     string // id of the results topic, as in tokens
	Partition int32
	Next      int64 // every record before it is
}

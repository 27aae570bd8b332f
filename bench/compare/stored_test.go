package compare

import (
	"strconv"
	"testing"
	"time"
)

// stored measures the ClickHouse that Vigie writes to.
type stored struct {
	address   string // with the user who may write
	pid       int
	began     time.Time
	cpu, idle float64 // seconds of processor time at began, and a second before Vigie comes
}

// begin is called before there is anything to store.
func (s *stored) begin(t *testing.T) {
	t.Helper()
	const watched = 2 * time.Second
	before := cpuOf(t, s.pid)
	time.Sleep(watched)
	s.cpu, s.began = cpuOf(t, s.pid), time.Now()
	s.idle = (s.cpu - before) / watched.Seconds()
}

// end is called when all is stored. What a row costs ends with the merges after it, which would otherwise be counted in
// one run and not in the next.
func (s *stored) end(t *testing.T, r *Run) {
	t.Helper()
	s.settle(t)
	r.ClickHouse = cpuOf(t, s.pid) - s.cpu - s.idle*time.Since(s.began).Seconds()
	r.Merges = s.merges(t)
	const table = "database = 'vigie' AND table = 'rollups_10s'"
	query(t, s.address, "OPTIMIZE TABLE vigie.rollups_10s FINAL")
	r.Stored = float64(atoi(t, query(t, s.address, "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND "+table)))
	r.StoredRows = atoi(t, query(t, s.address, "SELECT sum(rows) FROM system.parts WHERE active AND "+table))
}

// settle waits until nothing was merged for a second.
func (s *stored) settle(t *testing.T) {
	t.Helper()
	const quiet = time.Second
	deadline := time.Now().Add(time.Minute)
	for last := time.Now(); time.Since(last) < quiet; time.Sleep(50 * time.Millisecond) {
		if query(t, s.address, "SELECT count() FROM system.merges") != "0" {
			last = time.Now()
		}
		if time.Now().After(deadline) {
			t.Fatal("ClickHouse still merges after a minute")
		}
	}
}

// merges is the processor time of merges so far. The server writes its log of them every 7.5 s.
func (s *stored) merges(t *testing.T) float64 {
	t.Helper()
	time.Sleep(8 * time.Second)
	text := query(t, s.address, "SELECT sum(ProfileEvents['OSCPUVirtualTimeMicroseconds']) / 1e6 FROM system.part_log WHERE event_type = 'MergeParts' AND database = 'vigie'")
	seconds, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	return seconds
}

package sink

import (
	"fmt"
	"time"

	"github.com/vigie-io/vigie/internal/units"
)

// Config is the sink's part of the configuration (section "stream.inserts").
type Config struct {
	// Inserts that may run at the same time, all partitions together: so many of results, and as many of what is merged
	// of them. More lets ClickHouse work in parallel at the price of more, smaller parts. Default 4.
	Parallel int `yaml:"parallel"`
	// Bytes of records held in memory at most while ClickHouse is slower than they come: half of it of results, half of
	// what is merged of them, each shared evenly by the partitions. A partition above its share is not fetched until its
	// inserts catch up. One fetch may exceed it. Default 128MiB.
	Buffer units.Bytes `yaml:"buffer"`
	// How often the offsets of inserted records are committed. What was inserted after the last commit is
	// inserted again after a crash and dropped by ClickHouse as a duplicate. Default 1s.
	CommitInterval time.Duration `yaml:"commit_interval"`
	// First wait before an insert that did not succeed is tried again; doubles up to retry_max. Default 250ms.
	RetryMin time.Duration `yaml:"retry_min"`
	// Longest wait between two tries. The sink tries for ever, so this is how late it notices that ClickHouse
	// is back. Default 10s.
	RetryMax time.Duration `yaml:"retry_max"`
	// Refused blocks in a row, without one success in between, after which refusing is taken for the fault of
	// the server (a missing table, another version's schema) and not of the blocks: the sink then stops parking
	// and tries again until something succeeds. Default 16.
	ParkLimit int `yaml:"park_limit"`
	// What is done about blocks that a crash of a ClickHouse that is not replicated has lost (docs/verify.md): they are
	// looked for in the background after a start and after inserts that did not succeed, and with repair put back, with
	// report only told, with off not looked for. Default repair.
	Audit Audit `yaml:"audit"`
	// Panes older than this are not looked at by the audit. Default 6h. More reads more of the results topic when late
	// events came.
	AuditRange time.Duration `yaml:"audit_range"`
}

// Audit says what is done about lost blocks.
type Audit string

// What Config.Audit may be.
const (
	AuditRepair Audit = "repair"
	AuditReport Audit = "report"
	AuditOff    Audit = "off"
)

// DefaultConfig returns the documented defaults.
func DefaultConfig() Config {
	return Config{
		Parallel:       4,
		Buffer:         128 << 20,
		CommitInterval: time.Second,
		RetryMin:       250 * time.Millisecond,
		RetryMax:       10 * time.Second,
		ParkLimit:      16,
		Audit:          AuditRepair,
		AuditRange:     6 * time.Hour,
	}
}

// Validate says what is wrong, naming the key within the section.
func (c *Config) Validate() error {
	switch {
	case c.Parallel < 1 || c.Parallel > 256:
		return fmt.Errorf("parallel %d: want 1 to 256", c.Parallel)
	case c.Buffer < 1<<20:
		return fmt.Errorf("buffer %s: want at least 1MiB", c.Buffer)
	case c.CommitInterval < 10*time.Millisecond || c.CommitInterval > time.Minute:
		return fmt.Errorf("commit_interval %s: want 10ms to 1m", c.CommitInterval)
	case c.RetryMin < time.Millisecond:
		return fmt.Errorf("retry_min %s: want at least 1ms", c.RetryMin)
	case c.RetryMax < c.RetryMin:
		return fmt.Errorf("retry_max %s: want at least retry_min (%s)", c.RetryMax, c.RetryMin)
	case c.ParkLimit < 1:
		return fmt.Errorf("park_limit %d: want at least 1", c.ParkLimit)
	case c.Audit != AuditRepair && c.Audit != AuditReport && c.Audit != AuditOff:
		return fmt.Errorf("audit %q: want repair, report or off", c.Audit)
	case c.AuditRange < time.Minute:
		return fmt.Errorf("audit_range %s: want at least 1m", c.AuditRange)
	}
	return nil
}

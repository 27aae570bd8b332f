package backfill

import (
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/vigie-io/vigie/internal/pipeline/rollup"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
)

// Config says what to load and how.
type Config struct {
	Job      string // its name; letters, digits, '.', '_' and '-'
	Signal   events.Signal
	Patterns []string   // of files, as filepath.Glob takes them, or s3://bucket/key
	Tenant   tenants.ID // of every row; "" takes the rows' own
	Parallel int        // chunks at a time, and so inserts at a time; at least 1
	// MaxPast and MaxFuture bound event times around the time when the file was first begun.
	MaxPast, MaxFuture time.Duration
	Decoder            events.Options
	// InDoubt decides about chunks in doubt: "" ends with ErrInDoubt, "load" inserts them again, "skip" takes them for
	// loaded.
	InDoubt string
	// S3 is where s3:// is.
	S3 S3Config
	// Rollups are those that are declared; the signal's and tenant's are filled.
	Rollups []rollup.Declared
	// Runs is a folder for what windows hold, and samples of increases, while files are loaded; it is removed when both
	// are written. Default <job>.windows.
	Runs string
	// SplitSessions lets sessions that touch such as are stored stay beside them.
	SplitSessions bool
	// Replace puts the events in the place of what is stored, once all are loaded; nil adds them to it.
	Replace *Replace
}

var jobName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// Validate says what is wrong, naming the flag.
func (c *Config) Validate() error {
	switch {
	case !jobName.MatchString(c.Job):
		return fmt.Errorf("-job %q: want 1 to 64 of A-Z a-z 0-9 . _ -", c.Job)
	case c.Signal != events.Metrics && c.Signal != events.Spans && c.Signal != events.Logs:
		return fmt.Errorf("-signal %q: want metrics, spans or logs", c.Signal)
	case c.Replace != nil && c.Tenant == "":
		return errors.New("-replace: want -tenant: results are replaced of one tenant")
	case len(c.Patterns) == 0 && (c.Replace == nil || !c.Replace.Empty):
		return errors.New("-from: want files, such as 'dir/*.ndjson'")
	case c.Parallel < 1:
		return fmt.Errorf("-parallel %d: want 1 or more", c.Parallel)
	case c.InDoubt != "" && c.InDoubt != "load" && c.InDoubt != "skip":
		return fmt.Errorf("-in-doubt %q: want load or skip", c.InDoubt)
	}
	if c.Tenant != "" {
		return tenants.Validate(c.Tenant)
	}
	return nil
}

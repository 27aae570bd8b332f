package kafka

// Roles of those that share partitions out: connections, members and groups are called after them.
const (
	sinkRole       = "sink"        // stores the results topic
	coarseRole     = "coarse"      // merges it
	sinkCoarseRole = "sink-coarse" // stores what mergers make of it
	alertsRole     = "alerts"
	rulesRole      = "rules"
)

// groupOf is the consumer group of a role.
func (c *Config) groupOf(role string) string { return c.Group + "-" + role }

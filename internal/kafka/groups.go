package kafka

// Roles of those that store what topics hold: connections, members and groups are called after them.
const (
	sinkRole       = "sink"        // of the results topic
	sinkCoarseRole = "sink-coarse" // of what mergers make of it
)

// groupOf is the consumer group of a role.
func (c *Config) groupOf(role string) string { return c.Group + "-" + role }

package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/notify"
)

var _ notify.Source = (*Alerts)(nil)

// Alerts reads the topic of alerts as a member of the group that tells Alertmanagers: committed records, of each
// partition that it is given from the first. The group commits nothing.
type Alerts struct {
	topic   string
	client  *kgo.Client
	log     *slog.Logger
	revoked *revocations
}

// NewAlerts joins the group.
func NewAlerts(cfg Config, log *slog.Logger) (*Alerts, error) {
	instance, err := cfg.instance()
	if err != nil {
		return nil, err
	}
	options, err := cfg.options("alerts", log)
	if err != nil {
		return nil, err
	}
	a := &Alerts{topic: cfg.Topics.Alerts.Name, log: log, revoked: newRevocations(cfg.Topics.Alerts.Name)}
	a.client, err = kgo.NewClient(append(append(options, a.revoked.options()...),
		kgo.ConsumeTopics(a.topic),
		kgo.ConsumerGroup(cfg.groupOf(alertsRole)),
		kgo.InstanceID(instance+"-"+alertsRole),
		kgo.SessionTimeout(cfg.SessionTimeout),
		kgo.HeartbeatInterval(cfg.heartbeat()),
		kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.DisableAutoCommit(),
		kgo.FetchMaxWait(time.Second),
		// The last record of a partition is a transaction's marker: without it its end could not be told.
		kgo.KeepControlRecords(),
	)...)
	if err != nil {
		return nil, fmt.Errorf("kafka client: %w", err)
	}
	return a, nil
}

// Close leaves the partitions to this member's successor until the session timeout.
func (a *Alerts) Close() { a.client.CloseAllowingRebalance() }

// Poll implements notify.Source. Its error may wrap ErrFenced or ErrTopicRecreated.
func (a *Alerts) Poll(ctx context.Context) (notify.Fetch, error) {
	fetches := a.client.PollFetches(ctx)
	out := notify.Fetch{Lost: a.revoked.take()}
	a.client.AllowRebalance()
	if fetches.IsClientClosed() {
		return notify.Fetch{}, kgo.ErrClientClosed
	}
	if err := fetchErrors(fetches, a.log); err != nil {
		return notify.Fetch{}, err
	}
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		for _, r := range p.Records {
			if !r.Attrs.IsControl() {
				out.Records = append(out.Records,
					notify.Record{Partition: r.Partition, Offset: r.Offset, Time: r.Timestamp, Value: r.Value})
			}
		}
		if n := len(p.Records); n > 0 && p.Records[n-1].Offset+1 >= p.LastStableOffset {
			out.Ready = append(out.Ready, p.Partition)
		}
	})
	return out, nil
}

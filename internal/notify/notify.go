package notify

import (
	"context"
	"log/slog"
	"net/url"
	"sync"
)

// Fetch is what one Poll returned. Lost applies first: a partition in both was lost and came back, and its records
// begin anew.
type Fetch struct {
	Lost    []int32
	Records []Record
	// Ready are partitions that have been read to their end, as it was at some time since they were given.
	Ready []int32
}

// Source is the topic of alerts as this process's share of a consumer group. Of each partition that it is given it
// returns all records, from the first.
type Source interface {
	// Poll waits for records until ctx ends; an empty Fetch at the deadline is no error. An error ends the source.
	Poll(ctx context.Context) (Fetch, error)
}

// Notifier sends alerts to Alertmanagers. Run may be called once at a time.
type Notifier struct {
	cfg     Config
	metrics *Metrics
	log     *slog.Logger
}

// New returns a Notifier; cfg is valid.
func New(cfg Config, metrics *Metrics, log *slog.Logger) *Notifier {
	return &Notifier{cfg: cfg, metrics: metrics, log: log}
}

// Run returns when ctx ends, with nil, or with the error of the source.
func (n *Notifier) Run(ctx context.Context, source Source) error {
	ctx, stop := context.WithCancel(ctx)
	book := newBook()
	var lanes sync.WaitGroup
	defer lanes.Wait()
	defer stop()
	for _, address := range n.cfg.URLs {
		l := &lane{
			name: host(address), resend: n.cfg.Resend, book: book, post: newAlertmanager(&n.cfg, address).post,
			metrics: n.metrics, log: n.log, changed: make(chan struct{}, 1),
		}
		lanes.Go(func() { l.run(ctx) })
	}
	for {
		fetch, err := source.Poll(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		n.take(book, &fetch)
	}
}

func (n *Notifier) take(book *book, fetch *Fetch) {
	for _, partition := range fetch.Lost {
		book.lose(partition)
	}
	for i := range fetch.Records {
		r := &fetch.Records[i]
		a, err := parseAlert(r.Value)
		if err != nil {
			n.metrics.unreadable.Inc()
			n.log.Error("alert skipped", "partition", r.Partition, "offset", r.Offset, "err", err)
			continue
		}
		a.written = r.Time
		book.take(r.Partition, a)
	}
	for _, partition := range fetch.Ready {
		book.ready(partition)
	}
	n.metrics.firing.Set(float64(book.firing()))
}

// host names an Alertmanager in logs and metrics.
func host(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	return u.Host + u.Path
}

package verify

import (
	"context"
	"slices"
	"time"

	"github.com/vigie-io/vigie/pkg/events"
)

// position names a record.
type position struct {
	partition int32
	offset    int64
	timestamp int64
}

// letters are the dead letters of the topic. They say what the pipeline refused for its time, which was decided by a
// clock that nobody can read again, and for its labels, whose limits may have changed since.
type letters map[position]*Refusal

func readLetters(ctx context.Context, source Source, since time.Time) (letters, error) {
	out := letters{}
	err := source.Refusals(ctx, since, func(r Refusal) error {
		out[position{r.Partition, r.Offset, r.Timestamp}] = &r
		return nil
	})
	return out, err
}

// refuses says whether the letter is about the event; a nil letter is about none.
func (l *Refusal) refuses(index int) bool {
	return l != nil && (l.Events == nil || slices.Contains(l.Events, index))
}

// overLabels says whether the letter was written for a limit of labels that held then.
func (l *Refusal) overLabels() bool {
	return l.Reason == events.ReasonTooManyLabels || l.Reason == events.ReasonTooLong
}

// outOfTime says whether a task that refused an event of time t (Unix ns) then may have done so for its time. The
// letter was written within an epoch, a minute at the very most, after the task looked at its clock.
func (l *Refusal) outOfTime(t int64, maxPast, maxFuture time.Duration) bool {
	const epoch = time.Minute
	at := time.UnixMilli(l.At)
	event := time.Unix(0, t)
	return event.Before(at.Add(-maxPast)) || event.After(at.Add(maxFuture-epoch))
}

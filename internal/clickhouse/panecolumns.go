package clickhouse

import (
	"github.com/ClickHouse/ch-go/proto"

	"github.com/vigie-io/vigie/internal/query/promql"
	"github.com/vigie-io/vigie/pkg/series"
)

// paneColumns are the columns of an answer to Panes, reused from block to block. Those that were not asked for stay
// empty.
type paneColumns struct {
	results  proto.Results
	query    *promql.PaneQuery
	id       proto.ColUInt128
	group    proto.ColUInt32
	service  *proto.ColLowCardinality[string]
	position map[string]uint64 // of a service among those asked for
	start    proto.ColUInt32
	count    proto.ColUInt64
	sum      proto.ColFloat64
	lastTime proto.ColInt64
	last     proto.ColFloat64
	lastHist proto.ColStr
	sketch   proto.ColStr
}

func newPaneColumns(q *promql.PaneQuery) *paneColumns {
	c := &paneColumns{query: q}
	read := func(asked bool, name string, column proto.ColResult) {
		if asked {
			c.results = append(c.results, proto.ResultColumn{Name: name, Data: column})
		}
	}
	switch {
	case q.Services != nil:
		c.service, c.position = lowCardinality(), make(map[string]uint64, len(q.Services))
		for i, name := range q.Services {
			c.position[name] = uint64(i)
		}
		read(true, "key", c.service)
	case q.Groups != nil:
		read(true, "key", &c.group)
	default:
		read(true, "key", &c.id)
	}
	read(true, "start", &c.start)
	read(q.Count, "count", &c.count)
	read(q.Sum, "sum", &c.sum)
	read(q.Last, "last_time", &c.lastTime)
	read(q.Last, "last", &c.last)
	read(q.Last, "last_hist", &c.lastHist)
	read(q.Sketch, "sketch", &c.sketch)
	return c
}

func (c *paneColumns) idOf(row int) series.ID {
	switch {
	case c.query.Together:
		return series.ID{}
	case c.service != nil:
		return series.ID{Lo: c.position[c.service.Row(row)]}
	case c.query.Groups != nil:
		return series.ID{Lo: uint64(c.group[row])}
	}
	return series.ID{Hi: c.id[row].High, Lo: c.id[row].Low}
}

func (c *paneColumns) yield(rows int, yield func(series.ID, *promql.Pane) error) error {
	var pane promql.Pane
	for i := range rows {
		pane = promql.Pane{Start: int64(c.start[i]) * 1000}
		if c.query.Count {
			pane.Count = c.count[i]
		}
		if c.query.Sum {
			pane.Sum = c.sum[i]
		}
		if c.query.Last {
			pane.LastTime, pane.Last = c.lastTime[i], c.last[i]
			// A copy: strings may be kept.
			pane.LastHist = string(c.lastHist.RowBytes(i))
		}
		if c.query.Sketch {
			pane.Sketch = c.sketch.RowBytes(i)
		}
		if err := yield(c.idOf(i), &pane); err != nil {
			return err
		}
	}
	return nil
}

// paneJoiner makes one pane of adjoining rows of it. Their sketches come one after another.
type paneJoiner struct {
	yield func(series.ID, *promql.Pane) error
	id    series.ID
	pane  promql.Pane
	some  bool
}

func (j *paneJoiner) add(id series.ID, p *promql.Pane) error {
	if j.some && j.id == id && j.pane.Start == p.Start {
		j.pane.Count += p.Count
		j.pane.Sum += p.Sum
		j.pane.Sketch = append(j.pane.Sketch, p.Sketch...)
		return nil
	}
	if err := j.end(); err != nil {
		return err
	}
	sketch := append(j.pane.Sketch[:0], p.Sketch...)
	j.id, j.pane, j.some = id, *p, true
	j.pane.Sketch = sketch
	return nil
}

// end hands on the last pane.
func (j *paneJoiner) end() error {
	if !j.some {
		return nil
	}
	return j.yield(j.id, &j.pane)
}

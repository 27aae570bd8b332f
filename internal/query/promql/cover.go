package promql

import (
	"context"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

type coverKey struct{}

// WithCover says that the caller lays samples of its own over the Queryable, on series for whose selectors covers says
// yes. Queries under ctx read those series by series: what was added up before could not be laid over.
func WithCover(ctx context.Context, covers func(matchers []*labels.Matcher) bool) context.Context {
	return context.WithValue(ctx, coverKey{}, covers)
}

func coverOf(ctx context.Context) func([]*labels.Matcher) bool {
	covers, _ := ctx.Value(coverKey{}).(func([]*labels.Matcher) bool)
	return covers
}

func (p *plan) covered(of *parser.VectorSelector) bool {
	return p.covers != nil && p.covers(of.LabelMatchers)
}

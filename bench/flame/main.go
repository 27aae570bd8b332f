// Command flame draws a flame graph of a processor profile as SVG: each box is a function, as wide as its share of the
// time, below who called it.
//
//	go tool pprof -traces stream.pprof | go run ./bench/flame -title "stream" > docs/flame.svg
//
// It reads pprof's text and no profiles, and leaves out what is narrower than can be seen.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"html"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

const (
	width     = 1200.0
	rowHeight = 16
	narrowest = 1.5 // pixels
	charWidth = 6.2
)

// frame is a function with all that it called, at one place of the graph.
type frame struct {
	name  string
	total time.Duration
	calls map[string]*frame
}

func (f *frame) call(name string) *frame {
	if f.calls == nil {
		f.calls = map[string]*frame{}
	}
	if f.calls[name] == nil {
		f.calls[name] = &frame{name: name}
	}
	return f.calls[name]
}

func main() {
	title := flag.String("title", "processor time", "text above the graph")
	flag.Parse()
	root, err := read(os.Stdin)
	if err == nil {
		_, err = os.Stdout.Write(draw(root, *title))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "flame:", err)
		os.Exit(1)
	}
}

// read adds the stacks up that `pprof -traces` prints, each with its innermost function first.
func read(in io.Reader) (*frame, error) {
	root := &frame{name: "all"}
	var stack []string
	var spent time.Duration
	flush := func() {
		root.total += spent
		at := root
		for _, name := range slices.Backward(stack) {
			at = at.call(name)
			at.total += spent
		}
		stack, spent = stack[:0], 0
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	began := false
	for lines.Scan() {
		line := lines.Text()
		if strings.HasPrefix(line, "-----------+") {
			began = true
			flush()
			continue
		}
		fields := strings.Fields(strings.TrimSuffix(line, " (inline)"))
		if !began || len(fields) == 0 || strings.HasSuffix(fields[0], ":") {
			continue // a heading, or a label
		}
		if d, err := time.ParseDuration(fields[0]); err == nil && len(fields) > 1 && len(stack) == 0 {
			spent, fields = d, fields[1:]
		}
		stack = append(stack, strings.Join(fields, " "))
	}
	flush()
	if root.total == 0 {
		return nil, fmt.Errorf("read stacks: found none; want the output of `go tool pprof -traces`")
	}
	return root, lines.Err()
}

func draw(root *frame, title string) []byte {
	var boxes []byte
	depth := 0
	var place func(f *frame, x float64, row int)
	place = func(f *frame, x float64, row int) {
		w := width * float64(f.total) / float64(root.total)
		if w < narrowest {
			return
		}
		depth = max(depth, row+1)
		boxes = appendBox(boxes, f, root.total, x, w, row)
		for _, name := range slices.Sorted(maps.Keys(f.calls)) {
			place(f.calls[name], x, row+1)
			x += width * float64(f.calls[name].total) / float64(root.total)
		}
	}
	place(root, 0, 0)
	height := (depth + 2) * rowHeight
	out := fmt.Appendf(nil, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %d"`+
		` font-family="monospace" font-size="10">`+"\n", width, height)
	out = fmt.Appendf(out, `<rect width="100%%" height="100%%" fill="white"/>`+
		`<text x="4" y="14" font-size="12">%s</text>`+"\n", html.EscapeString(title))
	out = fmt.Appendf(out, `<g transform="translate(0,%d)">`+"\n", 2*rowHeight)
	return append(append(out, boxes...), "</g></svg>\n"...)
}

func appendBox(dst []byte, f *frame, all time.Duration, x, w float64, row int) []byte {
	name := f.name
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		name = name[i+1:]
	}
	hue := 0
	for _, c := range name {
		hue = (hue*31 + int(c)) % 50
	}
	dst = fmt.Appendf(dst, `<g><title>%s %.1f%%</title><rect x="%.1f" y="%d" width="%.1f" height="%d"`+
		` fill="hsl(%d,75%%,70%%)" stroke="white" stroke-width=".5"/>`,
		html.EscapeString(f.name), 100*float64(f.total)/float64(all), x, row*rowHeight, w, rowHeight, hue)
	if most := int((w - 4) / charWidth); most >= 3 {
		dst = fmt.Appendf(dst, `<text x="%.1f" y="%d">%s</text>`, x+2, row*rowHeight+11,
			html.EscapeString(name[:min(len(name), most)]))
	}
	return append(dst, "</g>\n"...)
}

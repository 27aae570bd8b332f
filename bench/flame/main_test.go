package main

import (
	"strings"
	"testing"
	"time"
)

const traces = `File: stream
Type: cpu
-----------+-------------------------------------------------------
     300ms   inner
             outer (inline)
             main
-----------+-------------------------------------------------------
     100ms   outer
             main
`

// Boxes are as wide as their share, callers above.
func TestDraw(t *testing.T) {
	root, err := read(strings.NewReader(traces))
	if err != nil {
		t.Fatal(err)
	}
	outer := root.call("main").call("outer")
	if root.total != 400*time.Millisecond || outer.total != root.total || outer.call("inner").total != 300*time.Millisecond {
		t.Errorf("got %v in all, %v in outer, %v in inner", root.total, outer.total, outer.call("inner").total)
	}
	svg := string(draw(root, "a < b"))
	for _, want := range []string{`<title>inner 75.0%</title><rect x="0.0" y="48" width="900.0"`, "a &lt; b"} {
		if !strings.Contains(svg, want) {
			t.Errorf("got %s, want %s in it", svg, want)
		}
	}
	if _, err := read(strings.NewReader("nothing")); err == nil {
		t.Error("no stacks: got no error")
	}
}

package series

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Errors of Sort, wrapped with the label at fault.
var (
	// ErrEmptyName means that a label has no name.
	ErrEmptyName = errors.New("empty label name")
	// ErrDuplicateName means that two labels with a value share a name.
	ErrDuplicateName = errors.New("duplicate label name")
)

// Sort makes Labels of labels in place: it drops those without a value and orders the rest by name. The
// result shares the array of labels. On error (ErrEmptyName, ErrDuplicateName) the order of labels is
// undefined and the result nil. No allocation on success.
func Sort(labels []Label) (Labels, error) {
	kept := labels[:0]
	ascending := true
	for _, label := range labels {
		if label.Name == "" {
			return nil, fmt.Errorf("label with value %.64q: %w", label.Value, ErrEmptyName)
		}
		if label.Value == "" {
			continue
		}
		if n := len(kept); n > 0 && kept[n-1].Name >= label.Name {
			ascending = false
		}
		kept = append(kept, label)
	}
	if ascending {
		return kept, nil
	}
	sortLabels(kept)
	for i := 1; i < len(kept); i++ {
		if kept[i-1].Name == kept[i].Name {
			return nil, fmt.Errorf("label %.64q: %w", kept[i].Name, ErrDuplicateName)
		}
	}
	return kept, nil
}

// sortLabels is an insertion sort of few labels: it takes half the time then.
func sortLabels(labels []Label) {
	const few = 16
	if len(labels) > few {
		slices.SortFunc(labels, func(a, b Label) int { return strings.Compare(a.Name, b.Name) })
		return
	}
	for i := 1; i < len(labels); i++ {
		label, at := labels[i], i
		for ; at > 0 && label.Name < labels[at-1].Name; at-- {
			labels[at] = labels[at-1]
		}
		labels[at] = label
	}
}

// Get returns the value of the label called name, or "" when there is none.
func (ls Labels) Get(name string) string {
	for i := range ls {
		if ls[i].Name == name {
			return ls[i].Value
		}
	}
	return ""
}

// Equal says whether both hold the same names and values.
func (ls Labels) Equal(other Labels) bool { return slices.Equal(ls, other) }

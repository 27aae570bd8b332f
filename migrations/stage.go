package migrations

import (
	_ "embed"
	"fmt"
	"strings"
	"text/template"
)

//go:embed stage.sql.tmpl
var stageSource string

// StagePrefix begins the names of the tables of a generation in database vigie: its "ingest" takes blocks as
// ingest_rollups does, and those named as the tables of rollups hold what comes of them. Its "ingest_windows" is as
// that of the stream, and keeps nothing.
func StagePrefix(gen uint64) string { return fmt.Sprintf("replace_%016x_", gen) }

// Stage are the statements that make the tables of a generation, on a single node; they can run twice.
func Stage(t Target, gen uint64) ([]string, error) {
	words := t.words()
	words["generation"] = func() string { return fmt.Sprintf("%d::UInt64", gen) }
	tmpl, err := template.New("stage").Funcs(words).Parse(stageSource)
	if err != nil {
		return nil, fmt.Errorf("parse stage.sql.tmpl: %w", err)
	}
	var text strings.Builder
	if err := tmpl.Execute(&text, StagePrefix(gen)); err != nil {
		return nil, fmt.Errorf("write stage.sql.tmpl: %w", err)
	}
	return split(text.String()), nil
}

// RollupTables are the tables that hold rollups.
func RollupTables() (names []string) {
	for _, tier := range tiers {
		names = append(names, "rollups_"+tier.Name, "services_"+tier.Name)
	}
	return names
}

package grafana

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// Types of datasources.
const (
	Prometheus = "prometheus"
	ClickHouse = "grafana-clickhouse-datasource"
)

// Datasource is how a panel or query names where it asks.
type Datasource struct{ Type, UID string }

// Target is one query of a panel: Expr of Prometheus, RawSQL of ClickHouse.
type Target struct {
	RefID      string
	Datasource Datasource
	Expr       string
	RawSQL     string
	Instant    bool
}

// Panel is one panel.
type Panel struct {
	ID         int
	Title      string
	Datasource Datasource
	GridPos    struct{ X, Y, W, H int }
	Targets    []Target
}

// Variable is a variable of a dashboard.
type Variable struct {
	Name, Type, Definition string
	AllValue               string
}

// Board is a dashboard.
type Board struct {
	File       string `json:"-"`
	UID, Title string
	Templating struct{ List []Variable }
	Panels     []Panel
}

// Boards reads the dashboards of a folder.
func Boards(folder string) ([]Board, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*.json"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("read dashboards of %s: want files *.json (%w)", folder, err)
	}
	var out []Board
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read dashboard: %w", err)
		}
		board := Board{File: file}
		if err := json.Unmarshal(text, &board); err != nil {
			return nil, fmt.Errorf("read dashboard %s: %w", file, err)
		}
		out = append(out, board)
	}
	return out, nil
}

// View shows the board from one end of a time range to the other, every variable at All.
func (b *Board) View(v View) View {
	v.variables = map[string]string{}
	for _, variable := range b.Templating.List {
		if variable.Type == "query" {
			v.variables[variable.Name] = variable.AllValue
		}
	}
	return v
}

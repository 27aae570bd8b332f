// Package migrations holds the schema of Vigie's ClickHouse as numbered SQL files, and turns them into statements for
// one node or for a cluster. It runs nothing: internal/clickhouse applies them.
//
// Files only go forward: a file that has been released is never changed (its checksum is kept in the database), a
// change is a new file. Every statement can run twice and beside itself (IF NOT EXISTS, OR REPLACE), because two
// processes may migrate at once and a crash may come between two statements. A statement ends with a semicolon at the
// end of a line; lines that begin with "--" are comments.
//
// Files are Go templates with these words:
//
//	{{on_cluster}}            nothing, or ON CLUSTER '<name>'
//	{{engine "X" "args"…}}    X(args), or ReplicatedX('<path>', '{replica}', args)
//	{{dedup}}                 the settings that make a table remember insert tokens (every table behind an ingest table)
//	{{owner}}                 the user that views behind ingest tables act as: the one that migrates
//	{{view_owner}}            the user that api views act as; the row policies of tenants are his
//	{{sketch}}                the column type of a sketch
//	{{merge "s"}}             the state merged from the states in column s
//	{{quantile "q" "s"}}      the q-quantile of the states in s
//	{{visible "r"}}           the condition that a row of rollups, called r, is of the generation that is read
//	{{visible_windows "w"}}   the same of a row of windows, called w
//	{{distinct}}              the column type of a distinct count
//	{{merge_distinct "s"}}    the state merged from the states in column s
//	{{distinct_count "s"}}    the estimate of state s
//	{{label_values}}          makes of a row of series, called s, one for each of its labels: name, value
//	{{windows}}               the views of closed windows, each with the kinds of rows that are in it
//	{{tiers}}                 the rollup tiers, finest first: Name, Source, Window, TTL, Partition
//	{{ways}}                  from which ingest table rows come into which tier, since rows of the wider ones are merged first
package migrations

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"text/template"

	"github.com/vigie-io/vigie/pkg/sketches"
)

//go:embed *.sql
var files embed.FS

// File is one migration.
type File struct {
	Version  int    // number at the front of the name, from 1 without gaps
	Name     string // "0001_databases.sql"
	Source   string // the template
	Checksum string // SHA-256 of Source, hexadecimal
}

// All lists the migrations in order.
func All() []File {
	names, err := fs.Glob(files, "*.sql") // sorted
	if err != nil {
		panic("BUG: " + err.Error())
	}
	out := make([]File, len(names))
	for i, name := range names {
		source, err := files.ReadFile(name)
		if err != nil {
			panic("BUG: " + err.Error())
		}
		number, _, _ := strings.Cut(name, "_")
		version, err := strconv.Atoi(number)
		if err != nil || version != i+1 {
			panic(fmt.Sprintf("BUG: migration %s: want number %04d in front", name, i+1))
		}
		sum := sha256.Sum256(source)
		out[i] = File{Version: version, Name: name, Source: string(source), Checksum: hex.EncodeToString(sum[:])}
	}
	return out
}

// Latest is the version of the newest migration.
func Latest() int { return len(All()) }

// Target is what statements are written for.
type Target struct {
	Cluster   string // name in the server's remote_servers; "" for a single node
	Owner     string // see {{owner}}
	ViewOwner string // see {{view_owner}}
}

// Statements are the file's SQL statements, without semicolons.
func (f File) Statements(t Target) ([]string, error) {
	text, err := f.text(t)
	return split(text), err
}

func (f File) text(t Target) (string, error) {
	tmpl, err := template.New(f.Name).Option("missingkey=error").Funcs(t.words()).Parse(f.Source)
	if err != nil {
		return "", fmt.Errorf("parse migration %s: %w", f.Name, err)
	}
	var text strings.Builder
	if err := tmpl.Execute(&text, nil); err != nil {
		return "", fmt.Errorf("write migration %s: %w", f.Name, err)
	}
	return text.String(), nil
}

func split(text string) (statements []string) {
	var statement []string
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \t\r\n")
		if line == "" || strings.HasPrefix(strings.TrimSpace(line), "--") {
			continue
		}
		last, end := strings.CutSuffix(line, ";")
		statement = append(statement, last)
		if end {
			statements = append(statements, strings.Join(statement, "\n"))
			statement = nil
		}
	}
	if len(statement) > 0 {
		panic("BUG: statement without a semicolon: " + strings.Join(statement, "\n"))
	}
	return statements
}

// Tier is one width of rollups.
type Tier struct {
	Name      string // suffix of the tables: "1m"
	Source    string // suffix of the tables it is fed from; "" for the ingest table
	Window    string // SQL interval of one pane
	TTL       string // SQL interval for which rows are kept
	Partition string // SQL expression over ts
}

// Daily partitions keep the number of parts that one insert of late events touches below ClickHouse's limit, as
// lateness is bounded by days; a year of hours takes months.
var tiers = []Tier{
	{Name: "10s", Window: "10 SECOND", TTL: "3 DAY", Partition: "toYYYYMMDD(ts)"},
	{Name: "1m", Source: "10s", Window: "1 MINUTE", TTL: "30 DAY", Partition: "toYYYYMMDD(ts)"},
	{Name: "1h", Source: "1m", Window: "1 HOUR", TTL: "400 DAY", Partition: "toYYYYMM(ts)"},
}

// way is from where a tier of rollups is filled, beside views that were there before.
type way struct {
	Name   string // of its views: "panes"
	Source string // ingest table
	Tier   string // suffix of the tables
	Window string // SQL interval of one pane
}

var ways = []way{
	{Name: "panes", Source: "ingest_panes", Tier: "10s", Window: "10 SECOND"},
	{Name: "minutes", Source: "ingest_minutes", Tier: "1m", Window: "1 MINUTE"},
	{Name: "rollups", Source: "ingest_rollups", Tier: "1m", Window: "1 MINUTE"},
}

const levels = "0.5, 0.9, 0.95, 0.99"

// alpha must reach the server digit by digit: a literal that is a little coarser gives silent garbage.
var alpha = strconv.FormatFloat(sketches.Alpha, 'f', -1, 64)

// SketchType is the column type of a sketch, as the server spells it.
func SketchType() string {
	return "AggregateFunction(quantilesDD(" + alpha + ", " + levels + "), Float64)"
}

// MergeStates is the SQL aggregate that merges the sketch states in column into one state.
func MergeStates(column string) string {
	return "quantilesDDMergeState(" + alpha + ", " + levels + ")(" + column + ")"
}

// Visible is the SQL condition that a row of a rollup table is of the generation that is read at its metric and hour
// (vigie.replaced), for readers who see one tenant's rows: tenant is a literal, or "" where a row policy lets no other
// through.
//
// What was replaced is looked up in one set, which holds the generation that is read and, as the one that is not, 0. It
// is made once for a statement, so that a statement sees the old rows or the new, all of them. Where nothing was ever
// replaced the first condition is a constant, and nothing is left of the rest.
func Visible(row, tenant string) string {
	where, and := "", ""
	if tenant != "" {
		where, and = " WHERE tenant = "+tenant, " AND tenant = "+tenant
	}
	metric := "if(" + row + ".metric IN (SELECT metric FROM vigie.replaced WHERE metric != ''" + and + "), " + row + ".metric::String, '')"
	return "if((SELECT count() = 0 FROM vigie.replaced" + where + "), " + row + ".gen = 0, xor(" + row + ".gen = 0, (" + metric +
		", intDiv(toUnixTimestamp(" + row + ".ts), 3600)::UInt32, " + row + ".gen) IN (SELECT metric, hour, arrayJoin(if(current = 0, [], [0, current])) FROM (" +
		"SELECT metric::String AS metric, arrayJoin(range(from, to)) AS hour, argMax(gen, at) AS current FROM vigie.replaced" + where + " GROUP BY metric, hour))))"
}

// VisibleWindows is Visible for rows of closed windows.
func VisibleWindows(row, tenant string) string {
	return row + ".gen = " + WindowGeneration(row, tenant)
}

// WindowGeneration is the SQL of the generation that is read of a window, of which row has tenant, metric, start and
// end: of the replacements that the window lies in the latest, 0 where there is none. A statement may have it once in a
// scope, for its names' sake.
//
// What there is in each hour of a metric that was replaced is one constant, made once for a statement: the generation
// that is read there and until when it reaches, and until when any reaches. A window that begins in the hour and ends
// within the first is of that generation. One that ends behind it lies over an edge of it, and may be of an earlier one
// that reaches further: only there all replacements are looked through.
func WindowGeneration(row, tenant string) string {
	where := "notEmpty(windows)"
	if tenant != "" {
		where += " AND tenant = " + tenant
	}
	key := func(tenant, metric, hour string) string {
		return "concat(" + tenant + ", ' ', " + metric + ", ' ', toString(" + hour + "))"
	}
	hours := "(SELECT (groupArray(key), arrayPushFront(groupArray(current), 0::UInt64), arrayPushFront(groupArray(until), 0::UInt32), arrayPushFront(groupArray(most), 0::UInt32)) FROM (" +
		"SELECT " + key("of_tenant", "metric", "hour") + " AS key, argMax(gen, (at, gen)) AS current, argMax(reach, (at, gen)) AS until, max(reach) AS most FROM (" +
		"SELECT tenant::String AS of_tenant, of.1 AS metric, arrayJoin(range(from, to)) AS hour, at, gen, to * 3600 + of.2 AS reach" +
		" FROM vigie.replaced ARRAY JOIN windows AS of WHERE " + where + ") GROUP BY of_tenant, metric, hour))"
	all := "(SELECT arrayReverseSort(groupArray((at, gen, tenant::String, of.1, from * 3600, to * 3600 + of.2))) FROM vigie.replaced ARRAY JOIN windows AS of WHERE " + where + ")"
	start, end := "toUnixTimestamp("+row+".start)", "toUnixTimestamp("+row+".end)"
	at := "transform(" + key(row+".tenant::String", row+".metric::String", "intDiv("+start+", 3600)") +
		", replaced_hours.1, range(2, 2 + length(replaced_hours.1)), 1)" // 1 is where nothing is replaced
	return "if(empty((" + hours + " AS replaced_hours).1), 0, multiIf(" + end + " <= replaced_hours.3[(" + at + " AS replaced_hour)], replaced_hours.2[replaced_hour], " +
		end + " <= replaced_hours.4[replaced_hour], arrayFirst(r -> r.3 = " + row + ".tenant AND r.4 = " + row + ".metric AND " + start + " >= r.5 AND " + end + " <= r.6, " + all + ").2, 0))"
}

// DistinctType is the column type of a distinct count, as the server spells it.
func DistinctType() string { return "AggregateFunction(uniqCombined64(" + precision + "), String)" }

// MergeDistinct is the SQL aggregate that merges the distinct counts in column into one state.
func MergeDistinct(column string) string {
	return "uniqCombined64MergeState(" + precision + ")(" + column + ")"
}

var precision = strconv.Itoa(sketches.DistinctPrecision)

// DistinctCount is the SQL of sketches.Distinct.Estimate of a state: ClickHouse's own estimate is up to 3 % too high
// between 41,000 and 60,000 items. Lists of up to 512 are exact there too; registers have the counts of their ranks at
// their end (docs/format/distinct.md), the contributions of empty and full ones are written as the sums that Ertl's
// loops make.
func DistinctCount(state string) string {
	const registers, ranks = 1 << sketches.DistinctPrecision, 64 - sketches.DistinctPrecision + 1
	m := strconv.Itoa(registers)
	end := registers*6/8 + 1 // bytes in front of the counts
	counts := fmt.Sprintf("arrayMap(r -> toFloat64(reinterpretAsUInt32(substring(CAST(%s, 'String'), %d + 4 * r, 4))), range(%d))", state, end+1, ranks+1)
	sigma := func(x string) string {
		return fmt.Sprintf("(%s + arraySum(k -> pow(%[1]s, exp2(k)) * exp2(k - 1), range(1, 40)))", x)
	}
	tau := func(x string) string {
		return fmt.Sprintf("if(%s IN (0, 1), 0, (1 - %[1]s - arraySum(k -> pow(1 - pow(%[1]s, exp2(-k)), 2) * exp2(-k), range(1, 60))) / 3)", x)
	}
	dense := fmt.Sprintf("arrayMap(c -> %[1]s. * %[1]s / (2 * log(2)) / (arrayFold((sum, r) -> (sum + c[r + 1]) / 2, range(%[2]d, 0, -1), %[1]s * %[3]s) + %[1]s * %[4]s), [%[5]s])[1]",
		m, ranks-1, tau("(1 - c["+strconv.Itoa(ranks+1)+"] / "+m+")"), sigma("(c[1] / "+m+")"), counts)
	return fmt.Sprintf("if(reinterpretAsUInt8(substring(CAST(%s, 'String'), 1, 1)) = 3, %s, toFloat64(finalizeAggregation(%[1]s)))", state, dense)
}

// LabelValues is SQL behind FROM that makes of each row of series one for each of its labels, with name and value, and
// for __name__.
func LabelValues(row string) string {
	return "ARRAY JOIN arrayPushFront(" + row + ".labels.keys, '__name__') AS name, arrayPushFront(" + row + ".labels.values, " + row + ".metric::String) AS value"
}

func (t Target) words() template.FuncMap {
	return template.FuncMap{
		"on_cluster": func() string {
			if t.Cluster == "" {
				return ""
			}
			return " ON CLUSTER " + quote(t.Cluster)
		},
		// again is an earlier migration, which makes its views anew.
		"again":           func(version int) (string, error) { return All()[version-1].text(t) },
		"engine":          t.engine,
		"dedup":           t.dedup,
		"owner":           func() string { return t.Owner },
		"view_owner":      func() string { return t.ViewOwner },
		"sketch":          SketchType,
		"merge":           MergeStates,
		"visible":         func(row string) string { return Visible(row, "") },
		"visible_windows": func(row string) string { return VisibleWindows(row, "") },
		"quantile": func(q, column string) string {
			return "arrayElement(quantilesDDMerge(" + alpha + ", " + q + ")(" + column + "), 1)"
		},
		"distinct":       DistinctType,
		"merge_distinct": MergeDistinct,
		"distinct_count": DistinctCount,
		"label_values":   func() string { return LabelValues("s") },
		"windows":        func() map[string]string { return map[string]string{"windows": "0, 2", "late_windows": "3, 4"} },
		"tiers":          func() []Tier { return tiers },
		"ways":           func() []way { return ways },
	}
}

func (t Target) engine(name string, args ...string) string {
	if t.Cluster == "" {
		return name + "(" + strings.Join(args, ", ") + ")"
	}
	args = append([]string{"'/clickhouse/tables/{shard}/{database}/{table}'", "'{replica}'"}, args...)
	return "Replicated" + name + "(" + strings.Join(args, ", ") + ")"
}

// The replicated default forgets a token after an hour, which an outage can outlast.
func (t Target) dedup() string {
	if t.Cluster == "" {
		return "non_replicated_deduplication_window = 100000"
	}
	return "replicated_deduplication_window = 100000, replicated_deduplication_window_seconds = 604800"
}

func quote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

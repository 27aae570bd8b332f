package sqlgate

import (
	"cmp"
	"net/url"
	"slices"
	"strings"
)

// outside are functions that reach files, other servers, other tenants' keys or the request's own headers, in lower
// case: those that stand where a table does. The database refuses them too.
var outside = map[string]string{
	"eval":                    "runs SQL that was not checked",
	"fuzzquery":               "is for tests of ClickHouse",
	"executable":              "runs programs on the server",
	"input":                   "is for INSERT",
	"format":                  "makes tables of text",
	"dictionary":              "reads around the views",
	"merge":                   "reads around the views",
	"cluster":                 "reads around the views",
	"clusterallreplicas":      "reads around the views",
	"viewexplain":             "counts rows of all tenants",
	"loop":                    "never ends",
	"url":                     "calls other servers",
	"urlcluster":              "calls other servers",
	"remote":                  "calls other servers",
	"remotesecure":            "calls other servers",
	"mysql":                   "calls other servers",
	"postgresql":              "calls other servers",
	"mongodb":                 "calls other servers",
	"redis":                   "calls other servers",
	"jdbc":                    "calls other servers",
	"odbc":                    "calls other servers",
	"ytsaurus":                "calls other servers",
	"s3":                      "calls other servers",
	"s3cluster":               "calls other servers",
	"gcs":                     "calls other servers",
	"oss":                     "calls other servers",
	"cosn":                    "calls other servers",
	"azureblobstorage":        "calls other servers",
	"azureblobstoragecluster": "calls other servers",
	"hdfs":                    "calls other servers",
	"hdfscluster":             "calls other servers",
	"sqlite":                  "reads the server's files",
	"filecluster":             "reads the server's files",
	"prometheusquery":         "reads around the views",
	"prometheusqueryrange":    "reads around the views",
	"timeseriesselector":      "reads around the views",
	"timeseriesdata":          "reads around the views",
	"timeseriestags":          "reads around the views",
	"timeseriesmetrics":       "reads around the views",
	"timeseriessamples":       "reads around the views",
}

// outsideScalars are such functions that stand where a value does. A name alone can call them, in arrayMap(file, [...])
// for one, so that the name is refused wherever it is not plainly a column's.
var outsideScalars = map[string]string{
	"file":                "reads the server's files",
	"catboostevaluate":    "loads a library on the server",
	"evalmlmethod":        "runs a model on the server",
	"getclienthttpheader": "reads the headers that carry the tenant",
	"getserversetting":    "shows the server's configuration",
	"getserverport":       "shows the server's configuration",
	"getmergetreesetting": "shows the server's configuration",
	"getmacro":            "shows the server's configuration",
	"showcertificate":     "shows the server's configuration",
	"joinget":             "reads around the views",
	"joingetornull":       "reads around the views",
	"logtrace":            "writes into the server's log",
}

// outsidePrefixes and outsideScalarPrefixes are families of such functions: mergeTreeIndex, mergeTreeProjection,
// mergeTreeAnalyzeIndexes … show keys of all tenants.
var (
	outsidePrefixes = map[string]string{
		"iceberg":   "calls other servers",
		"deltalake": "calls other servers",
		"hudi":      "calls other servers",
		"paimon":    "calls other servers",
	}
	outsideScalarPrefixes = map[string]string{
		"mergetree":      "shows keys of all tenants",
		"filesystem":     "shows the server's disks",
		"dictget":        "reads around the views",
		"dicthas":        "reads around the views",
		"dictisin":       "reads around the views",
		"aigenerate":     "calls other servers",
		"aiclassify":     "calls other servers",
		"aiembed":        "calls other servers",
		"aiextract":      "calls other servers",
		"aitranslate":    "calls other servers",
		"naivebayesclas": "loads a model on the server",
	}
)

// readers are the words a statement may begin with.
var readers = []string{"select", "with", "show", "describe", "desc", "explain", "exists"}

// checked is a statement that may run.
type checked struct {
	text        string     // without a SETTINGS clause at its end
	set         url.Values // the settings of that clause
	identifiers []string   // names, in lower case, of parameters that stand for names
}

// check tells whether sql is one statement that only reads. Its errors are *Exception.
func check(sql string) (*checked, error) {
	tokens, err := lex(sql)
	if err != nil {
		return nil, err
	}
	if tokens, err = oneStatement(tokens); err != nil {
		return nil, err
	}
	if err := begins(tokens); err != nil {
		return nil, err
	}
	clause := closingSettings(tokens)
	applies := slices.ContainsFunc(tokens, func(t token) bool { return t.isWord("apply") })
	for i, t := range tokens {
		if i >= clause.begin && i < clause.end {
			continue
		}
		if err := checkToken(tokens, i, t, applies); err != nil {
			return nil, err
		}
	}
	return &checked{clause.cut(sql, tokens), clause.set, identifiers(tokens)}, nil
}

func (t token) isWord(w string) bool { return t.kind == word && t.text == w }
func (t token) isSign(s string) bool { return t.kind == sign && t.text == s }

// oneStatement cuts trailing semicolons off and refuses others.
func oneStatement(tokens []token) ([]token, error) {
	for len(tokens) > 0 && tokens[len(tokens)-1].isSign(";") {
		tokens = tokens[:len(tokens)-1]
	}
	if len(tokens) == 0 {
		return nil, refuse(syntaxError, "the query is empty: send it in the body or as ?query=")
	}
	for _, t := range tokens {
		if t.isSign(";") {
			return nil, refuse(syntaxError, "several statements, at byte %d: send one at a time", t.at)
		}
	}
	return tokens, nil
}

// begins looks at the first word, behind opening brackets, and at the statement that EXPLAIN explains.
func begins(tokens []token) error {
	i := 0
	for i < len(tokens) && tokens[i].isSign("(") {
		i++
	}
	if i == len(tokens) || tokens[i].kind != word || !slices.Contains(readers, tokens[i].text) {
		what := "this"
		if i < len(tokens) && tokens[i].kind == word {
			what = strings.ToUpper(clip(tokens[i].text))
		}
		return refuse(readonly, "%s is not allowed: only SELECT, WITH, SHOW, DESCRIBE, EXISTS and EXPLAIN are", what)
	}
	if tokens[i].text != "explain" {
		return nil
	}
	return explains(tokens[i+1:])
}

// explanations are the words between EXPLAIN and the statement it explains, beside names of its settings.
var explanations = []string{"ast", "syntax", "query", "tree", "plan", "pipeline"}

func explains(tokens []token) error {
	for i, t := range tokens {
		named := i+1 < len(tokens) && tokens[i+1].isSign("=")
		value := i > 0 && tokens[i-1].isSign("=")
		switch {
		case t.isWord("indexes"), t.isWord("projections"):
			return refuse(readonly, "EXPLAIN %s is not allowed: it counts rows of all tenants", t.text)
		case t.isWord("select"), t.isWord("with"):
			return nil
		case t.kind == word && !named && !value && !slices.Contains(explanations, t.text):
			return refuse(readonly, "EXPLAIN %s is not allowed: only of SELECT", strings.ToUpper(clip(t.text)))
		}
	}
	return refuse(readonly, "EXPLAIN is allowed of SELECT only")
}

func checkToken(tokens []token, i int, t token, applies bool) error {
	next := func(n int) token {
		if i+n < len(tokens) {
			return tokens[i+n]
		}
		return token{kind: sign}
	}
	switch {
	case t.isWord("settings") && !inSystem(tokens, i):
		return refuse(readonly,
			"SETTINGS is not allowed, at byte %d: pass settings as URL parameters; quote the name if it is a column's", t.at)
	case t.isWord("into") && next(1).isWord("outfile"):
		return refuse(readonly, "INTO OUTFILE is not allowed, at byte %d", t.at)
	case t.isWord("parallel") && next(1).isWord("with"):
		return refuse(readonly, "PARALLEL WITH is not allowed, at byte %d", t.at)
	case t.isSign("}") && next(1).isSign("("):
		return refuse(accessDenied, "a parameter cannot name a function, at byte %d", t.at)
	case t.isSign("{") && applies:
		return refuse(accessDenied, "APPLY cannot be used together with query parameters, at byte %d", t.at)
	case t.kind == word || t.kind == quoted:
		name := strings.ToLower(t.text)
		if reason := reaches(name); reason != "" &&
			(applies || next(1).isSign("(") || callable(name) && !namesColumn(tokens, i)) {
			return refuse(accessDenied, "function %s is not allowed, at byte %d: it %s", clip(t.text), t.at, reason)
		}
	}
	return nil
}

// namesColumn tells whether the name at i is one that the statement gives (AS name) or a part of a longer one (a.name):
// neither is ever a function.
func namesColumn(tokens []token, i int) bool {
	return i > 0 && (tokens[i-1].isWord("as") || tokens[i-1].isSign("."))
}

// reaches returns why a function is not allowed, "" when it is.
func reaches(name string) string {
	for _, names := range []map[string]string{outside, outsideScalars} {
		if reason := names[name]; reason != "" {
			return reason
		}
	}
	return cmp.Or(family(name, outsidePrefixes), family(name, outsideScalarPrefixes))
}

// callable tells whether the name alone can call a function that is not allowed.
func callable(name string) bool {
	return outsideScalars[name] != "" || family(name, outsideScalarPrefixes) != ""
}

func family(name string, prefixes map[string]string) string {
	for prefix, reason := range prefixes {
		if strings.HasPrefix(name, prefix) {
			return reason
		}
	}
	return ""
}

// identifiers are the names of the parameters that stand for names: {name:Identifier}.
func identifiers(tokens []token) (names []string) {
	for i, t := range tokens {
		if t.isSign("{") && i+3 < len(tokens) && tokens[i+2].isSign(":") && strings.EqualFold(tokens[i+3].text, "identifier") {
			names = append(names, tokens[i+1].text)
		}
	}
	return names
}

// checkIdentifiers holds values of such parameters to what a name in the statement is held to. Names of parameters keep
// their case, which the lexer does not: all that differ in case only are looked at.
func checkIdentifiers(names []string, params url.Values) error {
	for param, values := range params {
		name, ok := strings.CutPrefix(strings.ToLower(param), "param_")
		if !ok || !slices.Contains(names, name) {
			continue
		}
		for _, value := range values {
			for part := range strings.SplitSeq(value, ".") {
				if part == "" || strings.IndexFunc(part, func(r rune) bool { return r >= 0x80 || !isWord(byte(r)) }) >= 0 {
					return refuse(badArguments,
						"parameter %s: got %q, want a name of letters, digits and '_'", clip(param), clip(value))
				}
				if reason := reaches(strings.ToLower(part)); reason != "" {
					return refuse(accessDenied, "parameter %s: function %s is not allowed: it %s",
						clip(param), clip(part), reason)
				}
			}
		}
	}
	return nil
}

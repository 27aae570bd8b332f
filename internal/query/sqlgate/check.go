package sqlgate

import (
	"net/url"
	"slices"
	"strings"
)

// outside are functions that reach files, other servers, other tenants' keys or the request's own headers, in
// lower case. The database refuses them too, all but the first ones.
var outside = map[string]string{
	"file":                    "reads the server's files",
	"eval":                    "runs SQL that was not checked",
	"catboostevaluate":        "loads a library on the server",
	"getclienthttpheader":     "reads the headers that carry the tenant",
	"executable":              "runs programs on the server",
	"input":                   "is for INSERT",
	"url":                     "calls other servers",
	"urlcluster":              "calls other servers",
	"remote":                  "calls other servers",
	"remotesecure":            "calls other servers",
	"cluster":                 "reads around the views",
	"clusterallreplicas":      "reads around the views",
	"mysql":                   "calls other servers",
	"postgresql":              "calls other servers",
	"mongodb":                 "calls other servers",
	"redis":                   "calls other servers",
	"jdbc":                    "calls other servers",
	"odbc":                    "calls other servers",
	"sqlite":                  "reads the server's files",
	"s3":                      "calls other servers",
	"s3cluster":               "calls other servers",
	"gcs":                     "calls other servers",
	"azureblobstorage":        "calls other servers",
	"azureblobstoragecluster": "calls other servers",
	"hdfs":                    "calls other servers",
	"hdfscluster":             "calls other servers",
	"getserversetting":        "shows the server's configuration",
	"getmacro":                "shows the server's configuration",
	"loop":                    "never ends",
}

// outsidePrefixes are families of such functions: mergeTreeIndex, mergeTreeProjection, mergeTreeAnalyzeIndexes …
// show keys of all tenants.
var outsidePrefixes = map[string]string{
	"mergetree":   "shows keys of all tenants",
	"filesystem":  "shows the server's disks",
	"filecluster": "reads the server's files",
	"iceberg":     "calls other servers",
	"deltalake":   "calls other servers",
	"hudi":        "calls other servers",
	"paimon":      "calls other servers",
}

// readers are the words a statement may begin with.
var readers = []string{"select", "with", "show", "describe", "desc", "explain", "exists"}

// check tells whether sql is one statement that only reads. Its errors are *Exception. What it returns is the statement
// to run: sql without a SETTINGS clause at its end, whose settings are set.
func check(sql string) (statement string, set url.Values, err error) {
	tokens, err := lex(sql)
	if err != nil {
		return "", nil, err
	}
	if tokens, err = oneStatement(tokens); err != nil {
		return "", nil, err
	}
	if err := begins(tokens); err != nil {
		return "", nil, err
	}
	clause := closingSettings(tokens)
	applies := slices.ContainsFunc(tokens, func(t token) bool { return t.isWord("apply") })
	for i, t := range tokens {
		if i >= clause.begin && i < clause.end {
			continue
		}
		if err := checkToken(tokens, i, t, applies); err != nil {
			return "", nil, err
		}
	}
	return clause.cut(sql, tokens), clause.set, nil
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
		return refuse(readonly, "SETTINGS is not allowed, at byte %d: pass settings as URL parameters; quote the name if it is a column's", t.at)
	case t.isWord("into") && next(1).isWord("outfile"):
		return refuse(readonly, "INTO OUTFILE is not allowed, at byte %d", t.at)
	case t.isWord("parallel") && next(1).isWord("with"):
		return refuse(readonly, "PARALLEL WITH is not allowed, at byte %d", t.at)
	case t.isSign("}") && next(1).isSign("("):
		return refuse(accessDenied, "a parameter cannot name a function, at byte %d", t.at)
	case t.isSign("{") && applies:
		return refuse(accessDenied, "APPLY cannot be used together with query parameters, at byte %d", t.at)
	case t.kind == word || t.kind == quoted:
		// SELECT * APPLY f calls f without brackets.
		if reason := reaches(strings.ToLower(t.text)); reason != "" && (applies || next(1).isSign("(")) {
			return refuse(accessDenied, "function %s is not allowed, at byte %d: it %s", clip(t.text), t.at, reason)
		}
	}
	return nil
}

// reaches returns why a function is not allowed, "" when it is.
func reaches(name string) string {
	if reason := outside[name]; reason != "" {
		return reason
	}
	for prefix, reason := range outsidePrefixes {
		if strings.HasPrefix(name, prefix) {
			return reason
		}
	}
	return ""
}

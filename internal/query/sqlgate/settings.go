package sqlgate

import "net/url"

// settingsClause is a SETTINGS clause at the end of a statement: tokens[begin:end]. The zero value is none.
type settingsClause struct {
	begin, end int
	set        url.Values
}

// closingSettings finds SETTINGS a = 1, b = 'x' as the last clause of the whole statement, or the last but FORMAT,
// which tools add to bound a query. It then means what the same settings mean as parameters of the request, and is
// judged as those are. Any other SETTINGS, in a subquery for one, can lift what the database holds a tenant to: those
// are refused where they stand.
func closingSettings(tokens []token) settingsClause {
	end := len(tokens)
	if end >= 2 && tokens[end-2].isWord("format") && tokens[end-1].kind == word {
		end -= 2
	}
	c := settingsClause{end: end, set: url.Values{}}
	for at := end; ; {
		// Backwards: name = value, before it a comma or SETTINGS.
		if at < 4 || !tokens[at-2].isSign("=") || tokens[at-3].kind != word {
			return settingsClause{}
		}
		value := tokens[at-1]
		if value.kind != number && value.kind != word && (value.kind != text || !plainText(value.text)) {
			return settingsClause{}
		}
		if name := tokens[at-3].text; !c.set.Has(name) { // the last one holds
			c.set.Set(name, value.text)
		}
		switch before := tokens[at-4]; {
		case before.isSign(","):
			at -= 4
		case before.isWord("settings") && !inSystem(tokens, at-4) && outermost(tokens[:at-4]):
			c.begin = at - 4
			return c
		default:
			return settingsClause{}
		}
	}
}

// plainText is a string that means itself.
func plainText(s string) bool {
	for i := range len(s) {
		if s[i] == '\'' || s[i] == '\\' {
			return false
		}
	}
	return true
}

// outermost tells whether all brackets are closed.
func outermost(tokens []token) bool {
	depth := 0
	for _, t := range tokens {
		switch {
		case t.isSign("("), t.isSign("["), t.isSign("{"):
			depth++
		case t.isSign(")"), t.isSign("]"), t.isSign("}"):
			depth--
		}
	}
	return depth == 0
}

// inSystem tells whether the word at i is the table of the name system.settings.
func inSystem(tokens []token, i int) bool {
	return i >= 2 && tokens[i-1].isSign(".") && tokens[i-2].isWord("system") && (i < 3 || !tokens[i-3].isSign("."))
}

// cut returns sql without the clause.
func (c settingsClause) cut(sql string, tokens []token) string {
	if c.end == c.begin {
		return sql
	}
	return sql[:tokens[c.begin].at] + " " + sql[tokens[c.end-1].end:]
}

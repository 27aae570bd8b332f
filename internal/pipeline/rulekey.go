package pipeline

import "encoding/binary"

// A rule key is what operators write of a tenant under a rule: the rule's id, what the key is about, the tenant behind
// its length, and a name.

func appendRuleKey(dst []byte, rule uint64, kind byte, tenant string) []byte {
	dst = append(binary.LittleEndian.AppendUint64(dst, rule), kind, byte(len(tenant)))
	return append(dst, tenant...)
}

// ruleOf is the rule's id in a key.
func ruleOf(key string) uint64 { return binary.LittleEndian.Uint64([]byte(key[:8])) }

// cutRuleKey takes the rest of a key apart; kind is 0 when it is none.
func cutRuleKey(key string) (kind byte, tenant, name string) {
	if len(key) < 10 || len(key) < 10+int(key[9]) {
		return 0, "", ""
	}
	end := 10 + int(key[9])
	return key[8], key[10:end], key[end:]
}

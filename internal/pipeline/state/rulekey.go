package state

import "encoding/binary"

// AppendRuleKey appends the key of what an operator keeps of a tenant under a rule: the rule's id, what the key is
// about, and the tenant behind its length. A name may follow it.
func AppendRuleKey(dst []byte, rule uint64, kind byte, tenant string) []byte {
	dst = append(binary.LittleEndian.AppendUint64(dst, rule), kind, byte(len(tenant)))
	return append(dst, tenant...)
}

// RuleOf is the rule's id in a key of at least eight bytes.
func RuleOf(key string) uint64 { return binary.LittleEndian.Uint64([]byte(key[:8])) }

// CutRuleKey takes apart what follows the rule's id in a key. kind is 0 when it is no such key.
func CutRuleKey(key string) (kind byte, tenant, name string) {
	if len(key) < 10 || len(key) < 10+int(key[9]) {
		return 0, "", ""
	}
	end := 10 + int(key[9])
	return key[8], key[10:end], key[end:]
}

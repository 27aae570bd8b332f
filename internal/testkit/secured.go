package testkit

import (
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
)

// SecuredAdmin is the user of a [SecuredKafka] who may do everything.
const SecuredAdmin = "admin"

// SecuredKafka is MortalKafka that takes SASL/PLAIN alone, of [SecuredAdmin] and users whose passwords are their names,
// and lets users do what ACLs allow. It does not verify whether a transaction holds the partitions that are written to
// under it, so that a test can leave one open.
func SecuredKafka(t testing.TB, users ...string) *Broker {
	t.Helper()
	jaas := fmt.Sprintf("org.apache.kafka.common.security.plain.PlainLoginModule required username=%q password=%q", SecuredAdmin,
		SecuredAdmin)
	for _, user := range append(users, SecuredAdmin) {
		jaas += fmt.Sprintf(" user_%s=%q", user, user)
	}
	nodes := nodesOf(t, 1)
	nodes[0].extra = []string{
		"listeners=SASL_PLAINTEXT://" + nodes[0].addr + ",CONTROLLER://" + nodes[0].controller,
		"advertised.listeners=SASL_PLAINTEXT://" + nodes[0].addr,
		"listener.security.protocol.map=SASL_PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
		"inter.broker.listener.name=SASL_PLAINTEXT",
		"sasl.mechanism.inter.broker.protocol=PLAIN",
		"sasl.enabled.mechanisms=PLAIN",
		"listener.name.sasl_plaintext.plain.sasl.jaas.config=" + jaas + ";",
		"authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
		"super.users=" + strings.Join([]string{"User:" + SecuredAdmin, "User:ANONYMOUS"}, ";"), // the controller's
		"transaction.partition.verification.enable=false",
	}
	return mortals(t, nodes, kgo.SASL(plain.Auth{User: SecuredAdmin, Pass: SecuredAdmin}.AsMechanism()))
}

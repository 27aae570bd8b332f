// Package testkit gives tests the real parts they need, on free ports and in directories of their own: ClickHouse, a
// Kafka in the process, Apache Kafka, Vigie's own binaries. Everything it starts ends with the test, and with the
// test's process however that ends. It holds no assertions on Vigie's data.
//
// A package that uses it calls [Main] from TestMain.
package testkit

import (
	"os"
	"testing"

	"github.com/vigie-io/vigie/internal/devstack"
)

// Main is the body of TestMain: it becomes the child process that a test started this binary as, or runs the tests and
// ends what they share. It does not return.
func Main(m *testing.M) {
	devstack.MaybeChild()
	code := m.Run()
	sharedApache.close()
	removeBinaries()
	preparedDirs.remove()
	os.Exit(code)
}

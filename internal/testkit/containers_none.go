//go:build !containers

package testkit

import "testing"

const containersBuilt = false

func containerKafka(testing.TB) (addr string, stop func(), err error) {
	panic("BUG: built without containers")
}

func containerClickHouse(testing.TB, []byte) (addr string, err error) {
	panic("BUG: built without containers")
}

// Command vigie is the operator's tool: it runs everything on one machine, migrates, reads dead letters, makes keys.
package main

import (
	"os"

	"github.com/vigie-io/vigie/internal/cli"
	"github.com/vigie-io/vigie/internal/devstack"
)

// version is set by the build.
var version = "dev"

func main() {
	devstack.MaybeChild()
	os.Exit(cli.Vigie(version, os.Args[1:], cli.Standard()))
}

// Command query answers PromQL and SQL, each tenant its own.
package main

import (
	"os"

	"github.com/vigie-io/vigie/internal/app"
	"github.com/vigie-io/vigie/internal/cli"
)

// version is set by the build.
var version = "dev"

func main() {
	os.Exit(cli.Service("query", version, app.Query, os.Args[1:], cli.Standard()))
}

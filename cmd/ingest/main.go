// Command ingest takes events over HTTP and appends them to Kafka.
package main

import (
	"os"

	"github.com/vigie-io/vigie/internal/app"
	"github.com/vigie-io/vigie/internal/cli"
)

// version is set by the build.
var version = "dev"

func main() {
	os.Exit(cli.Service("ingest", version, app.Ingest, os.Args[1:], cli.Standard()))
}

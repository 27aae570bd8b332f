// Command stream turns Kafka records into rollups and writes them to ClickHouse.
package main

import (
	"os"

	"github.com/vigie-io/vigie/internal/app"
	"github.com/vigie-io/vigie/internal/cli"
)

// version is set by the build.
var version = "dev"

func main() {
	os.Exit(cli.Service("stream", version, app.Stream, os.Args[1:], cli.Standard()))
}

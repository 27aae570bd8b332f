package cli

import (
	"testing"

	"github.com/vigie-io/vigie/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

//go:build !linux

package pipeline

import "time"

// threadCPU is not known here: stages then count no processor time.
func threadCPU() time.Duration { return 0 }

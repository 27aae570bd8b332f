package api

import (
	"testing"
	"time"
)

// SetUploadTime shortens how long bodies may take, for one test.
func SetUploadTime(t testing.TB, d time.Duration) {
	before := uploadTime
	uploadTime = d
	t.Cleanup(func() { uploadTime = before })
}

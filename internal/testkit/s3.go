package testkit

import (
	"context"
	"debug/buildinfo"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/devstack"
)

// The S3 server is Versity's gateway (Apache-2.0), built by the Go command and known by the checksum of its module.
const (
	s3Package = "github.com/versity/versitygw/cmd/versitygw"
	s3Version = "v1.8.0"
	s3Sum     = "h1:au+wI+aybno/STsQiSm35Uu6Q6iK5MWReQxgO6SEMFc="
	s3Space   = 1 << 30 // the sources and what the compiler makes of them
)

// S3Server is a server that speaks S3 and checks signatures.
type S3Server struct {
	Addr                 string // IP:port, without TLS
	AccessKey, SecretKey string
}

// S3 starts a server without buckets and ends it with the test.
func S3(t testing.TB) *S3Server {
	t.Helper()
	dir, err := devstack.EnsureCached(t.Context(), "", devstack.Part{
		Name: "versitygw-" + s3Version, Space: s3Space,
		Valid: func(dir string) bool { return checkS3(filepath.Join(dir, "versitygw")) == nil },
		Fetch: buildS3,
	}, func(line string) { t.Log(line) })
	if err != nil {
		Missing(t, "an S3 server", err.Error())
	}
	server, err := startS3(t, filepath.Join(dir, "versitygw"))
	if err != nil {
		t.Fatal(err)
	}
	return server
}

func startS3(t testing.TB, binary string) (*S3Server, error) {
	s := &S3Server{Addr: FreeAddr(t), AccessKey: "test-access", SecretKey: "test-secret-key"}
	dir, err := os.MkdirTemp("", "vigie-s3-")
	if err != nil {
		return nil, err
	}
	// Not every file system has the attributes that the server would keep ETags in.
	for _, name := range []string{"data", "sidecar"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			return nil, err
		}
	}
	process, err := devstack.StartTethered(dir, filepath.Join(dir, "console.log"),
		binary, "--port", s.Addr, "--access", s.AccessKey, "--secret", s.SecretKey, "--quiet",
		"posix", "--sidecar", filepath.Join(dir, "sidecar"), filepath.Join(dir, "data"))
	if err != nil {
		return nil, err
	}
	t.Cleanup(process.Stop)
	for range 200 {
		select {
		case <-process.Done():
			return nil, fmt.Errorf("start the S3 server on %s: %w", s.Addr, process.Failure())
		case <-time.After(50 * time.Millisecond):
		}
		if conn, err := net.Dial("tcp", s.Addr); err == nil {
			_ = conn.Close()
			return s, nil
		}
	}
	return nil, fmt.Errorf("start the S3 server on %s: it takes no connection after 10 s", s.Addr)
}

func buildS3(ctx context.Context, work string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "install", s3Package+"@"+s3Version)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOBIN="+work)
	if output, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w: %s; it needs Go's module proxy", s3Package, err, output)
	}
	return work, checkS3(filepath.Join(work, "versitygw"))
}

func checkS3(binary string) error {
	info, err := buildinfo.ReadFile(binary)
	if err == nil && info.Main.Sum != s3Sum {
		err = fmt.Errorf("module %s %s has checksum %s, want %s", info.Main.Path, info.Main.Version, info.Main.Sum, s3Sum)
	}
	return err
}

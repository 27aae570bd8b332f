package sqlgate_test

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/ClickHouse/ch-go/compress"
	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"github.com/vigie-io/vigie/internal/query/sqlgate"
)

// counter counts what it is given.
type counter int

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// Answers of many clients at once, long ones, short ones and those that break off, are each what was written, in every
// encoding: encoders are used again.
func TestEncodersAreUsedAgain(t *testing.T) {
	decoders := map[string]func(io.Reader) (io.Reader, error){
		"zstd":    func(r io.Reader) (io.Reader, error) { return zstd.NewReader(r) },
		"lz4":     func(r io.Reader) (io.Reader, error) { return lz4.NewReader(r), nil },
		"gzip":    func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) },
		"deflate": func(r io.Reader) (io.Reader, error) { return zlib.NewReader(r) },
		"br":      func(r io.Reader) (io.Reader, error) { return brotli.NewReader(r), nil },
		"framed":  func(r io.Reader) (io.Reader, error) { return compress.NewReader(r), nil },
	}
	var clients sync.WaitGroup
	for client := range 8 {
		random := rand.New(rand.NewPCG(1, uint64(client)))
		clients.Go(func() {
			for range 40 {
				for encoding, decode := range decoders {
					var want, out bytes.Buffer
					w := sqlgate.Encoded(&out, encoding, encoding == "framed")
					for range 1 + random.IntN(4) {
						piece := bytes.Repeat(fmt.Appendf(nil, "%d of %d\n", random.Uint64(), client), 1+random.IntN(1000))
						want.Write(piece)
						if _, err := w.Write(piece); err != nil {
							t.Error(err)
						}
					}
					if random.IntN(5) == 0 {
						continue // broken off
					}
					if err := w.Close(); err != nil {
						t.Error(err)
					}
					r, err := decode(&out)
					if err != nil {
						t.Errorf("%s: %v", encoding, err)
						continue
					}
					// At the end of the last block compress.Reader wraps io.EOF.
					if got, err := io.ReadAll(r); err != nil && !errors.Is(err, io.EOF) || !bytes.Equal(got, want.Bytes()) {
						t.Errorf("%s: got %d bytes, %v, want the %d that were written", encoding, len(got), err, want.Len())
					}
				}
			}
		})
	}
	clients.Wait()
}

// BenchmarkEncoded compresses answers of rows as of api.metrics_10s, in text and in columns, in pieces as they come
// from ClickHouse.
func BenchmarkEncoded(b *testing.B) {
	random := rand.New(rand.NewPCG(1, 2))
	const rows = 40_000
	var text, columns []byte
	for i := range rows {
		text = fmt.Appendf(text, `{"metric":"http_request_duration_seconds","service":"checkout-%d","series_id":"%d%d","labels":{"env":"prod","instance":"10.0.%d.%d","route":"\/cart\/%d"},"ts":"2026-11-26 14:%02d:%02d","count":"%d","sum":%g}`+"\n",
			i%50, random.Uint64(), random.Uint64(), i%200, i%250, i%20, i/360%60, i%6*10, random.IntN(200), float64(random.IntN(100_000))/64)
	}
	for i := range rows {
		columns = binary.LittleEndian.AppendUint32(columns, uint32(1_795_700_000+i/40*10))
	}
	for range rows {
		columns = binary.LittleEndian.AppendUint64(columns, uint64(random.IntN(200)))
	}
	for range rows {
		columns = binary.LittleEndian.AppendUint64(columns, random.Uint64())
	}
	for name, answer := range map[string][]byte{"text": text, "columns": columns, "small": text[:2000]} {
		for _, encoding := range []string{"none", "framed", "zstd", "lz4", "gzip", "deflate", "br"} {
			b.Run(name+"/"+encoding, func(b *testing.B) {
				b.ReportAllocs()
				var out counter
				in, before := 0, processor()
				for b.Loop() {
					w := sqlgate.Encoded(&out, encoding, encoding == "framed")
					for some := range slices.Chunk(answer, 32<<10) {
						if _, err := w.Write(some); err != nil {
							b.Fatal(err)
						}
					}
					if err := w.Close(); err != nil {
						b.Fatal(err)
					}
					in += len(answer)
				}
				b.ReportMetric((processor()-before)*1e3/(float64(in)/1e6), "cpu-ms/MB")
				b.ReportMetric(float64(out)/float64(in), "of-size")
			})
		}
	}
}

// processor is the processor time of this process so far, seconds.
func processor() float64 {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return 0
	}
	return float64(used.Utime.Nano()+used.Stime.Nano()) / 1e9
}

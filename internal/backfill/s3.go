package backfill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/vigie-io/vigie/internal/pause"
	"github.com/vigie-io/vigie/internal/units"
)

const s3Scheme = "s3://"

// S3Config says where s3:// is and who asks. Without keys they are looked for as AWS' own tools do: AWS_ACCESS_KEY_ID
// and AWS_SECRET_ACCESS_KEY, ~/.aws/credentials, the role of the machine.
type S3Config struct {
	// Endpoint is the URL of the service, such as https://s3.example.com:9000. Default https://s3.amazonaws.com.
	Endpoint string `yaml:"endpoint"`
	// Region of the buckets. Default "": the service is asked.
	Region string `yaml:"region"`
	// AccessKey names who asks. Default "": see above.
	AccessKey string `yaml:"access_key"`
	// SecretKey goes with access_key.
	SecretKey units.Secret `yaml:"secret_key"`
	// SecretKeyFile holds the secret key in its first line, instead of secret_key.
	SecretKeyFile string `yaml:"secret_key_file"`
	// PathStyle puts buckets into the path of URLs and not into the host name. Default false: the path is used where
	// the endpoint is not one of the large providers.
	PathStyle bool `yaml:"path_style"`
}

// DefaultS3Config is AWS.
func DefaultS3Config() S3Config { return S3Config{Endpoint: "https://s3.amazonaws.com"} }

// Validate says what is wrong.
func (c *S3Config) Validate() error {
	at, err := url.Parse(c.Endpoint)
	switch {
	case err != nil || at.Scheme != "http" && at.Scheme != "https" || at.Host == "" ||
		strings.Trim(at.Path, "/") != "" || at.User != nil:
		return fmt.Errorf("endpoint %q: want http:// or https://, a host, and no more", c.Endpoint)
	case c.SecretKey != "" && c.SecretKeyFile != "":
		return errors.New("secret_key and secret_key_file: want one of them")
	case (c.AccessKey == "") != (c.SecretKey == "" && c.SecretKeyFile == ""):
		return errors.New("access_key: want a secret_key (or secret_key_file) with it, or neither")
	}
	return nil
}

func (c *S3Config) client() (*minio.Core, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	at, err := url.Parse(c.Endpoint)
	if err != nil {
		return nil, err
	}
	keys := credentials.NewChainCredentials([]credentials.Provider{
		&credentials.EnvAWS{}, &credentials.FileAWSCredentials{},
		&credentials.IAM{Client: &http.Client{Timeout: 5 * time.Second}},
	})
	if c.AccessKey != "" {
		secret := c.SecretKey.Reveal()
		if c.SecretKeyFile != "" {
			text, err := os.ReadFile(c.SecretKeyFile)
			if err != nil {
				return nil, fmt.Errorf("read secret_key_file: %w", err)
			}
			secret, _, _ = strings.Cut(string(text), "\n")
			secret = strings.TrimSpace(secret)
		}
		keys = credentials.NewStaticV4(c.AccessKey, secret, "")
	}
	lookup := minio.BucketLookupAuto
	if c.PathStyle {
		lookup = minio.BucketLookupPath
	}
	return minio.NewCore(at.Host,
		&minio.Options{Creds: keys, Secure: at.Scheme == "https", Region: c.Region, BucketLookup: lookup})
}

// objects lists what s3://bucket/pattern matches.
func objects(ctx context.Context, pattern string, cfg *S3Config) (files []*file, err error) {
	bucket, keys, _ := strings.Cut(strings.TrimPrefix(pattern, s3Scheme), "/")
	if bucket == "" || keys == "" {
		return nil, errors.New("want s3://bucket/key, the key with * as in a path")
	}
	if _, err := path.Match(keys, ""); err != nil {
		return nil, err
	}
	client, err := cfg.client()
	if err != nil {
		return nil, fmt.Errorf("backfill.s3: %w", err)
	}
	prefix := keys
	if i := strings.IndexAny(keys, `*?[\`); i >= 0 {
		prefix = keys[:i]
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the listing when it is left early
	for o := range client.ListObjectsIter(ctx, bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true}) {
		if o.Err != nil {
			return nil, o.Err
		}
		if ok, _ := path.Match(keys, o.Key); ok {
			files = append(files,
				&file{path: s3Scheme + bucket + "/" + o.Key, size: o.Size, from: &object{client, bucket, o.Key, o.ETag}})
		}
	}
	return files, ctx.Err()
}

// object is a file in an S3 bucket. Every read asks for the ETag that was listed, so that no two reads see different
// bytes. (What a file is in the ledger is its hash all the same: an ETag is not one where the object came in parts or
// is encrypted, and another service gives the same bytes another.)
type object struct {
	client      *minio.Core
	bucket, key string
	etag        string
}

func (o *object) open(ctx context.Context) (bytesAt, error) { return &objectReader{o, ctx}, nil }
func (o *object) unchanged() error                          { return nil } // each read has asked

// objectReader carries ctx into the calls of io, which take none.
type objectReader struct {
	*object
	ctx context.Context
}

// bodyTries bounds how often a part is asked for again after its body broke off. Requests that get no answer are
// repeated by the client.
const bodyTries = 5

// ReadAt gets one range.
func (o *objectReader) ReadAt(p []byte, at int64) (n int, err error) {
	for try := 0; ; try++ {
		n, err = o.get(p, at)
		if err == nil || errors.Is(err, io.EOF) || errors.Is(err, errChanged) || o.ctx.Err() != nil ||
			minio.ToErrorResponse(err).StatusCode != 0 || try == bodyTries {
			return n, err
		}
		if err := pause.For(o.ctx, minWait<<try); err != nil {
			return 0, err
		}
	}
}

func (o *objectReader) get(p []byte, at int64) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	var options minio.GetObjectOptions
	if err := cmp.Or(options.SetMatchETag(o.etag), options.SetRange(at, at+int64(len(p))-1)); err != nil {
		return 0, err
	}
	body, info, _, err := o.client.GetObject(o.ctx, o.bucket, o.key, options)
	switch minio.ToErrorResponse(err).StatusCode {
	case http.StatusPreconditionFailed, http.StatusNotFound:
		return 0, fmt.Errorf("load %s%s/%s: %w", s3Scheme, o.bucket, o.key, errChanged)
	case http.StatusRequestedRangeNotSatisfiable:
		return 0, io.EOF
	}
	if err != nil {
		return 0, err
	}
	defer body.Close()
	if info.Size > int64(len(p)) {
		return 0, fmt.Errorf("read %s%s/%s: got %d bytes, want %d: the service does not know ranges", s3Scheme,
			o.bucket, o.key, info.Size, len(p))
	}
	n, err := io.ReadFull(body, p[:info.Size])
	if err == nil && n < len(p) {
		err = io.EOF // the object ends here
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("the answer broke off")
	}
	return n, err
}

// Close has nothing to close: each read closes its answer.
func (o *objectReader) Close() error { return nil }

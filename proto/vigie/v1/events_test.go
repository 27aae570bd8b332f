package vigiev1_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/protoutil"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

var update = flag.Bool("update", false, "rewrite events.pb.go and testdata/published.txt")

const source = "vigie/v1/events.proto"

// file is events.proto, compiled, with its comments.
func file(t *testing.T) protoreflect.FileDescriptor {
	t.Helper()
	compiler := protocompile.Compiler{
		Resolver:       &protocompile.SourceResolver{ImportPaths: []string{filepath.Join("..", "..")}},
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	files, err := compiler.Compile(context.Background(), source)
	if err != nil {
		t.Fatalf("compile %s: %v", source, err)
	}
	return files[0]
}

// events.pb.go is what protoc-gen-go makes of events.proto.
func TestGenerated(t *testing.T) {
	request, err := proto.Marshal(&pluginpb.CodeGeneratorRequest{
		FileToGenerate: []string{source}, Parameter: proto.String("module=github.com/vigie-io/vigie/proto/vigie/v1"),
		ProtoFile: []*descriptorpb.FileDescriptorProto{protoutil.ProtoFromFileDescriptor(file(t))},
	})
	if err != nil {
		t.Fatal(err)
	}
	generator := exec.CommandContext(t.Context(), "go", "tool", "protoc-gen-go")
	generator.Stdin, generator.Stderr = bytes.NewReader(request), os.Stderr
	output, err := generator.Output()
	if err != nil {
		t.Fatalf("run protoc-gen-go: %v", err)
	}
	var response pluginpb.CodeGeneratorResponse
	if err := proto.Unmarshal(output, &response); err != nil || len(response.File) != 1 {
		t.Fatalf("got %v and %d files of protoc-gen-go (%s), want one", err, len(response.File), response.GetError())
	}
	same(t, response.File[0].GetName(), response.File[0].GetContent())
}

// What has been published stays: every message, field, number, type and word.
func TestOnlyAdditions(t *testing.T) {
	path := filepath.Join("testdata", "published.txt")
	now := publish(file(t))
	published, err := os.ReadFile(path)
	if err != nil && !*update {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, line := range now {
		there[line] = true
	}
	for line := range strings.Lines(string(published)) {
		if line = strings.TrimSpace(line); !there[line] {
			t.Errorf("events.proto has no %q any more, which producers rely on", line)
		}
	}
	if !t.Failed() {
		same(t, path, strings.Join(now, "\n")+"\n")
	}
}

// publish lists what producers rely on, a line each.
func publish(f protoreflect.FileDescriptor) (lines []string) {
	lines = append(lines, "package "+string(f.Package()))
	for i := range f.Enums().Len() {
		values := f.Enums().Get(i).Values()
		for j := range values.Len() {
			v := values.Get(j)
			lines = append(lines, fmt.Sprintf("enum %s: %s = %d", f.Enums().Get(i).Name(), v.Name(), v.Number()))
		}
	}
	for i := range f.Messages().Len() {
		fields := f.Messages().Get(i).Fields()
		for j := range fields.Len() {
			lines = append(lines, fmt.Sprintf("message %s: %s", f.Messages().Get(i).Name(), fieldOf(fields.Get(j))))
		}
	}
	return lines
}

func fieldOf(f protoreflect.FieldDescriptor) string {
	kind := f.Kind().String()
	switch {
	case f.Message() != nil:
		kind = string(f.Message().Name())
	case f.Enum() != nil:
		kind = string(f.Enum().Name())
	}
	which := ""
	switch {
	case f.IsList():
		which = "repeated "
	case f.HasOptionalKeyword():
		which = "optional "
	case f.ContainingOneof() != nil:
		which = "oneof " + string(f.ContainingOneof().Name()) + " "
	}
	return fmt.Sprintf("%s%s %s = %d", which, kind, f.Name(), f.Number())
}

// same holds a file against what it should be, or writes it.
func same(t *testing.T, path, want string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what events.proto says; run go test ./proto/... -update", path)
	}
}

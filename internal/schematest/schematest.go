// Package schematest reads the .proto schemas of the topics. It is for tests.
package schematest

import (
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// Message compiles a .proto file and returns the descriptor of one of its messages.
//
// The compiler is a program below this package, in a module of its own, which the go command runs.
func Message(t *testing.T, path string, name protoreflect.Name) protoreflect.MessageDescriptor {
	t.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	_, here, _, _ := runtime.Caller(0)
	compiler := filepath.Join(filepath.Dir(here), "compile")
	cmd := exec.CommandContext(t.Context(), "go", "run", "-C", compiler, ".", path)
	cmd.Stderr = t.Output()
	b, err := cmd.Output()
	if err != nil {
		t.Fatalf("compile %s: %v", path, err)
	}
	var file descriptorpb.FileDescriptorProto
	if err := proto.Unmarshal(b, &file); err != nil {
		t.Fatalf("read descriptor of %s: %v", path, err)
	}
	d, err := protodesc.NewFile(&file, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatalf("read descriptor of %s: %v", path, err)
	}
	m := d.Messages().ByName(name)
	if m == nil {
		t.Fatalf("%s has no message %s", path, name)
	}
	return m
}

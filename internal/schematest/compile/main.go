// Compile reads a .proto file and writes its FileDescriptorProto to standard output.
// Package schematest drives it.
//
// It is a program in a module of its own. The compiler of Protocol Buffers stays out of Nowcast's go.mod.
//
// usage: compile FILE
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "compile:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("usage: compile FILE")
	}
	c := protocompile.Compiler{Resolver: &protocompile.SourceResolver{}}
	files, err := c.Compile(ctx, args[0])
	if err != nil {
		return fmt.Errorf("compile schema: %w", err)
	}
	b, err := proto.Marshal(protodesc.ToFileDescriptorProto(files[0]))
	if err != nil {
		return fmt.Errorf("encode descriptor: %w", err)
	}
	if _, err := os.Stdout.Write(b); err != nil {
		return fmt.Errorf("write descriptor: %w", err)
	}
	return nil
}

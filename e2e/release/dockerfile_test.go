package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"github.com/spark-vitals/spark-vitals/e2e/cluster"
)

// The Dockerfile describes the image that "make image" builds: one file on
// nothing, the same user, entry point and labels, built by the same Go.
func TestDockerfile(t *testing.T) {
	root, err := cluster.Root()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := parser.Parse(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	stages, _, err := instructions.Parse(parsed.AST, nil)
	if err != nil {
		t.Fatal(err)
	}
	toolchain, err := toolchainOf(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	if builder := stages[0].BaseName; "go"+strings.TrimPrefix(builder, "golang:") != toolchain {
		t.Errorf("the image is built by %s, and go.mod says %s", builder, toolchain)
	}
	last := stages[len(stages)-1]
	if last.BaseName != "scratch" {
		t.Errorf("the image is built on %s", last.BaseName)
	}
	described, files := v1.Config{Labels: map[string]string{}}, []string{}
	for _, command := range last.Commands {
		switch c := command.(type) {
		case *instructions.LabelCommand:
			for _, label := range c.Labels {
				described.Labels[label.Key] = label.Value
			}
		case *instructions.UserCommand:
			described.User = c.User
		case *instructions.EntrypointCommand:
			described.Entrypoint = c.CmdLine
		case *instructions.CopyCommand:
			files = append(files, c.DestPath)
		case *instructions.ArgCommand:
		default:
			t.Errorf("%s has no counterpart in the image", command.Name())
		}
	}
	binary := filepath.Join(t.TempDir(), "spark-vitals")
	if err := os.WriteFile(binary, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	built, err := static(binary, "$VERSION", "amd64")
	if err != nil {
		t.Fatal(err)
	}
	config, err := built.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(config.Config, described); diff != "" {
		t.Errorf("make image and the Dockerfile (-image +Dockerfile):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"/spark-vitals"}, files); diff != "" {
		t.Errorf("files (-image +Dockerfile):\n%s", diff)
	}
}

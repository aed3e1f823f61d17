package main

import (
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/mod/modfile"
)

// platform is an operating system and an architecture, as Go names them.
type platform struct{ os, arch string }

func (p platform) String() string { return p.os + "/" + p.arch }

var (
	inImage = []platform{{"linux", "amd64"}, {"linux", "arm64"}}
	// platforms that the commands for users run on: report, preview, policy.
	platforms = append(slices.Clone(inImage), platform{"darwin", "amd64"}, platform{"darwin", "arm64"}, platform{"windows", "amd64"}, platform{"windows", "arm64"})
)

// binary is the program for a platform.
type binary struct {
	platform
	file string
	info *buildinfo.BuildInfo
}

// buildAll builds the program for platforms, below a folder.
func buildAll(ctx context.Context, root, version, folder string, all []platform) (built []binary, err error) {
	toolchain, err := toolchainOf(filepath.Join(root, "go.mod"))
	if err != nil {
		return nil, err
	}
	for _, p := range all {
		file := filepath.Join(folder, p.os+"-"+p.arch, "spark-vitals")
		if p.os == "windows" {
			file += ".exe"
		}
		if err := build(ctx, root, version, toolchain, p, file); err != nil {
			return nil, fmt.Errorf("building for %s: %w", p, err)
		}
		info, err := buildinfo.ReadFile(file)
		if err != nil {
			return nil, err
		}
		built = append(built, binary{p, file, info})
	}
	return built, nil
}

// build builds a program that knows its version and commit, and nothing of this
// machine. It uses the toolchain of go.mod even if a newer one is installed, because
// another Go makes other bytes.
func build(ctx context.Context, root, version, toolchain string, p platform, file string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=true", "-ldflags=-s -w -X main.version="+version, "-o", file, "./cmd/spark-vitals")
	cmd.Dir, cmd.Stderr = root, os.Stderr
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+p.os, "GOARCH="+p.arch, "GOAMD64=v1", "GOARM64=v8.0",
		"GOTOOLCHAIN="+toolchain, "GOFLAGS=", "GOEXPERIMENT=", "GOFIPS140=off", "GOWORK=off")
	return cmd.Run()
}

func toolchainOf(file string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	parsed, err := modfile.Parse(file, text, nil)
	if err != nil {
		return "", err
	}
	if parsed.Toolchain == nil {
		return "", fmt.Errorf("%s has no line \"toolchain\"", file)
	}
	return parsed.Toolchain.Name, nil
}

// commit is the commit that a program was built from.
type commit struct {
	hash string
	date time.Time
}

// commitOf reads the commit that Go wrote into a program. It fails if there were
// uncommitted files, because then nobody could say what was built.
func commitOf(info *buildinfo.BuildInfo) (c commit, err error) {
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	if settings["vcs.modified"] != "false" {
		return c, errors.New("there are changes that are not committed; commit them, or build in a fresh clone")
	}
	c.hash = settings["vcs.revision"]
	c.date, err = time.Parse(time.RFC3339, settings["vcs.time"])
	return c, err
}

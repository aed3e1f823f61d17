// Command release builds what is shipped, without docker, without a registry and
// without a network: the same commit gives the same bytes.
//
//	release image VERSION FOLDER
//	release all VERSION FOLDER [REGISTRY]
//
// "image" makes of FOLDER an OCI image layout for linux/amd64 and linux/arm64,
// and writes beside it, for each, a list of what is linked in (CycloneDX).
//
// "all" fills FOLDER with the files of a release: the program for each platform,
// the image, the chart, the manifest for krew, lists of what is linked in,
// provenance and checksums. With REGISTRY, where the image is pushed to, the
// chart's annotations name the image.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	switch {
	case len(args) == 3 && args[0] == "image":
		return buildImage(ctx, args[1], args[2])
	case len(args) == 3 && args[0] == "all":
		return release(ctx, args[1], args[2], "")
	case len(args) == 4 && args[0] == "all":
		return release(ctx, args[1], args[2], args[3])
	}
	return errors.New("usage: release image VERSION FOLDER, or release all VERSION FOLDER [REGISTRY]")
}

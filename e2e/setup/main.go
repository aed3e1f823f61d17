// Command setup prepares what tests and stories run on, and shows how far it is:
//
//	setup build   the binaries for the tests on an API server
//	setup up      a whole cluster with Spark's images, which stays
//	setup images  the images as archives in the folder ./images, for another cluster
//	setup down    ends it
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/e2e/lab"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) != 1 {
		args = []string{""}
	}
	switch args[0] {
	case "build":
		return cluster.BuildAll(ctx, os.Stderr, cluster.APIServerBinaries)
	case "up":
		l, err := lab.Up(ctx, os.Stderr)
		if err != nil {
			return err
		}
		fmt.Fprintln(os.Stdout, "export KUBECONFIG="+l.Kubeconfig)
		return l.SparkImages(ctx)
	case "images":
		if err := os.MkdirAll("images", 0o755); err != nil {
			return err
		}
		return lab.Archives(ctx, "images", os.Stderr)
	case "down":
		return lab.Down(ctx)
	}
	return errors.New("usage: setup build|up|images|down")
}

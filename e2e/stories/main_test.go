// Package stories tries every claim of spark-vitals on real Spark, on a real
// cluster, with and without it. One story is one subtest; a table of them is
// printed at the end.
package stories

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/spark-vitals/spark-vitals/e2e/lab"
)

var (
	theLab    *lab.Lab
	artifacts string // where failures leave what they saw
	keepLab   = flag.Bool("keep", false, "leave the cluster running")
)

func TestMain(m *testing.M) {
	flag.Parse()
	if err := withLab(m); err != nil {
		panic(err)
	}
}

func withLab(m *testing.M) (err error) {
	ctx := context.Background()
	ours, running := lab.Running(ctx)
	if another := os.Getenv("KUBECONFIG"); another != "" && another != ours {
		theLab, err = lab.Attach(another, os.Stdout)
	} else {
		theLab, err = lab.Up(ctx, os.Stdout)
	}
	if err != nil {
		return err
	}
	if theLab.HostAccess() && !running && !*keepLab {
		defer func() {
			if down := lab.Down(ctx); err == nil {
				err = down
			}
		}()
	}
	if err := theLab.Install(ctx); err != nil {
		return err
	}
	if artifacts, err = lab.Artifacts(); err != nil {
		return err
	}
	m.Run()
	fmt.Fprint(os.Stdout, theTable)
	return nil
}

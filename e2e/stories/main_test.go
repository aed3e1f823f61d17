// Package stories tests every claim of spark-vitals with real Spark on a real cluster,
// with and without it. A story is a subtest. A table of all stories is printed at the
// end.
package stories

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"github.com/spark-vitals/spark-vitals/e2e/lab"
)

var (
	theLab    *lab.Lab
	artifacts string // where failures leave what they saw
	keepLab   = flag.Bool("keep", false, "leave the cluster running")
	write     = flag.String("write", "", "the page whose table gets what was seen")
	existing  = flag.Bool("existing", false, "run on the cluster of KUBECONFIG, and install spark-vitals there meanwhile")
)

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := withLab(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code) //nolint:forbidigo // the main of a test
}

func withLab(m *testing.M) (code int, err error) {
	ctx := context.Background()
	stop, err := enter(ctx)
	if err != nil {
		return 1, err
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	ended := make(chan int)
	go func() { ended <- runStories(ctx, m) }()
	select {
	case code = <-ended:
	case <-interrupted:
		code = 1
	}
	return code, stop()
}

// runStories runs the stories, and fails if none ran, because a name may be wrong.
func runStories(ctx context.Context, m *testing.M) (code int) {
	if !*allStories { // a webhook that CI's machine stops for seconds would be passed by
		theLab.Values = map[string]any{"webhook": map[string]any{"timeoutSeconds": 30}}
	}
	if err := theLab.Install(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code = m.Run()
	fmt.Fprint(os.Stdout, theTable)
	if *write != "" {
		if err := theTable.writeInto(*write); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	if ran.Load() == 0 {
		fmt.Fprintln(os.Stderr, "no story has this name")
		return 1
	}
	return code
}

// enter starts or attaches the cluster, and returns how to restore it.
func enter(ctx context.Context) (stop func() error, err error) {
	if artifacts, err = lab.Artifacts(); err != nil {
		return nil, err
	}
	if *existing {
		if theLab, err = lab.Attach(os.Stdout); err != nil {
			return nil, err
		}
		return func() error { return theLab.Uninstall(ctx) }, nil
	}
	leave, err := lab.Lock(!*keepLab)
	if err != nil {
		return nil, err
	}
	running := lab.Running(ctx)
	if theLab, err = lab.Up(ctx, os.Stdout); err != nil {
		return nil, errors.Join(err, leave())
	}
	return func() error {
		if running || *keepLab {
			return leave()
		}
		return errors.Join(lab.Down(ctx), leave())
	}, nil
}

// Command spark-vitals watches over Apache Spark on Kubernetes. Each subcommand is one
// job, with a file here. The other packages do the work.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

// Exit statuses. They separate a finding from a failure.
const (
	exitFine  = 0
	exitError = 1
	exitFound = 2
)

// errFound ends a command that worked and found what its user looks for.
var errFound = errors.New("found")

func run(args []string, in io.Reader, out, errOut io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := rootCommand()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	switch err := root.ExecuteContext(ctx); {
	case err == nil:
		return exitFine
	case errors.Is(err, errFound):
		return exitFound
	default:
		fmt.Fprintln(errOut, "spark-vitals:", err)
		return exitError
	}
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "spark-vitals",
		Short:         "Probes, deaths and advice for Apache Spark on Kubernetes",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(webhookCommand(), recorderCommand(), releaserCommand(), stallwatchCommand(), certsCommand(), checkCommand(), reportCommand(), previewCommand(), policyCommand(), versionCommand())
	return root
}

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/spark-vitals/spark-vitals/check"
	"github.com/spark-vitals/spark-vitals/internal/job"
)

// checkCommand returns the command that "helm test" runs.
func checkCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "check",
		Short: "Check whether spark-vitals works on this cluster, and if not, why",
		Long: `Check whether spark-vitals works on this cluster, and if not, which of the usual
causes it is. It only uses dry runs, so it creates nothing.`,
	}
	command.AddCommand(checkInjectionCommand(), checkRecordCommand())
	return command
}

const checkTimeout = time.Minute

func checkInjectionCommand() *cobra.Command {
	var (
		namespace string
		engine    check.Engine
		api       job.Flags
	)
	command := &cobra.Command{
		Use:   "injection",
		Short: "Check that a Spark pod is injected in an opted-in namespace",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := api.Client(agent)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(c.Context(), checkTimeout)
			defer cancel()
			injected, err := check.Injection(ctx, client, namespace, engine)
			if err == nil {
				fmt.Fprintf(c.OutOrStdout(), "engine %s, injected: %s\n", engine, injected)
			}
			return err
		},
	}
	flags := command.Flags()
	flags.StringVar(&namespace, "namespace", "default", "a namespace with the label spark-vitals.io/inject=enabled")
	flags.StringVar(&engine.Webhook, "webhook-configuration", "spark-vitals", "name of the mutating webhook configuration")
	flags.StringVar(&engine.Policy, "admission-policy", "", "name of the MutatingAdmissionPolicy for drivers that injects in place of the webhook")
	api.AddKubeconfig(flags)
	return command
}

func checkRecordCommand() *cobra.Command {
	var api job.Flags
	command := &cobra.Command{
		Use:   "record",
		Short: "Check that a record can be written, on this pod",
		Long:  `Check that a record can be written, on the pod that POD_NAMESPACE and POD_NAME name.`,
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			namespace, pod := os.Getenv("POD_NAMESPACE"), os.Getenv("POD_NAME")
			if namespace == "" || pod == "" {
				return errors.New("POD_NAMESPACE and POD_NAME are missing: set them to the pod to check")
			}
			client, err := api.Client(agent)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(c.Context(), checkTimeout)
			defer cancel()
			if err := check.Record(ctx, client, namespace, pod); err != nil {
				return err
			}
			fmt.Fprintln(c.OutOrStdout(), "records may be written")
			return nil
		},
	}
	api.AddKubeconfig(command.Flags())
	return command
}

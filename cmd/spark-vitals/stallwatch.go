package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/spark-vitals/spark-vitals/internal/job"
	"github.com/spark-vitals/spark-vitals/stall/watch"
)

func stallwatchCommand() *cobra.Command {
	var (
		c   watch.Config
		api job.Flags
	)
	command := &cobra.Command{
		Use:   "stallwatch",
		Short: "Report drivers whose log is silent for too long",
		Long: `Report running drivers whose log is silent for longer than their rule says
(logStall): on the driver, as an Event and as a metric, with what else is seen of
it and how sure that is. Nothing is ended. A driver that writes again is no longer
reported.

The webhook stamps on each driver how long its log may be silent; without the
webhook nothing is watched. Of several replicas one works.`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) (err error) {
			if c.CallsPerSecond < 1 {
				return fmt.Errorf("--calls-per-second is %g; it must be 1 or more", c.CallsPerSecond)
			}
			c.Log = api.Log(command.ErrOrStderr())
			job.LimitMemory(c.Log)
			if c.Namespace, err = api.OwnNamespace(); err != nil {
				return err
			}
			if c.API, err = api.API(); err != nil {
				return err
			}
			return watch.Run(command.Context(), c)
		},
	}
	flags := command.Flags()
	flags.StringSliceVar(&c.Namespaces, "namespaces", nil, "watch drivers of these namespaces only")
	api.AddNamespace(flags, "the lease is kept")
	flags.Float32Var(&c.CallsPerSecond, "calls-per-second", 10, "of the API server, at most")
	job.AddServers(flags, &c.MetricsBindAddress, &c.HealthProbeBindAddress)
	api.AddKubeconfig(flags)
	api.AddLogLevel(flags)
	return command
}

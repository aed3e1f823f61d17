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
		Long: `Report running drivers whose log is silent for longer than their rule allows (logStall).
The report is on the driver, an Event and a metric, with the evidence and how sure it is.
The stall watch also reports such drivers if their heap is exhausted. It ends nothing. It
stops reporting a driver that logs again, or whose UI gives data again.

The webhook stamps on each driver how long its log may be silent; without the webhook
nothing is watched. Of several replicas one works.`,
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
	flags.StringSliceVar(&c.Namespaces, "namespaces", nil, "watch only drivers of these namespaces")
	api.AddNamespace(flags, "the lease")
	flags.Float32Var(&c.CallsPerSecond, "calls-per-second", 10, "maximum calls to the API server per second")
	flags.BoolVar(&c.ReadDriverUI, "read-driver-ui", true, "ask the UI of a silent driver what its threads do")
	job.AddServers(flags, &c.MetricsBindAddress, &c.HealthProbeBindAddress)
	api.AddKubeconfig(flags)
	api.AddLogLevel(flags)
	return command
}

package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/spark-vitals/spark-vitals/stall/watch"
)

func stallwatchCommand() *cobra.Command {
	var (
		c   watch.Config
		api apiFlags
	)
	command := &cobra.Command{
		Use:   "stallwatch",
		Short: "Report drivers whose log is silent for too long",
		Long: `Report running drivers whose log is silent for longer than their rule allows (logStall).
The report is on the driver, an Event and a metric, with the evidence and how sure it is.
The stall watch ends nothing. It stops reporting a driver that logs again.

The webhook stamps on each driver how long its log may be silent; without the webhook
nothing is watched. Of several replicas one works.`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) (err error) {
			if c.CallsPerSecond < 1 {
				return fmt.Errorf("--calls-per-second is %g; it must be 1 or more", c.CallsPerSecond)
			}
			c.Log = logTo(logger(command.ErrOrStderr(), &api.level))
			limitMemory(c.Log)
			if c.Namespace, err = ownNamespace(c.Namespace); err != nil {
				return err
			}
			if c.API, err = restConfig(api.kubeconfig); err != nil {
				return err
			}
			return watch.Run(command.Context(), c)
		},
	}
	flags := command.Flags()
	flags.StringSliceVar(&c.Namespaces, "namespaces", nil, "watch only drivers of these namespaces")
	flags.StringVar(&c.Namespace, "namespace", "", "namespace of the lease; by default the pod's own")
	flags.Float32Var(&c.CallsPerSecond, "calls-per-second", 10, "maximum calls to the API server per second")
	flags.StringVar(&c.MetricsBindAddress, "metrics-bind-address", ":8080", "address to serve /metrics on")
	flags.StringVar(&c.HealthProbeBindAddress, "health-probe-bind-address", ":8081", "address to serve /healthz and /readyz on")
	api.addKubeconfig(flags)
	api.addLogLevel(flags)
	return command
}

package main

import (
	"fmt"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/spark-vitals/spark-vitals/internal/job"
	"github.com/spark-vitals/spark-vitals/policy"
	"github.com/spark-vitals/spark-vitals/remedy/watch"
	"github.com/spark-vitals/spark-vitals/webhook"
)

func webhookCommand() *cobra.Command {
	var (
		c          webhook.Config
		policyFile string
		validation string
		api        job.Flags

		watchDrivers, watchJobs bool
	)
	command := &cobra.Command{
		Use:   "webhook",
		Short: "Serve the admission webhook",
		Long: `Serve the admission webhook over TLS: /mutate and /audit for pods and Services,
/validate for pods. It needs access to the API server only with --watch-drivers.`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) (err error) {
			if c.Policy, err = readPolicy(policyFile); err != nil {
				return err
			}
			if c.Deny, err = denies(validation); err != nil {
				return err
			}
			c.Log = api.Log(command.ErrOrStderr())
			if watchDrivers {
				c.WatchDrivers = func(registry prometheus.Registerer) (webhook.Drivers, error) {
					config, err := api.API()
					if err != nil {
						return nil, err
					}
					config.UserAgent = "spark-vitals-webhook/" + version
					return watch.New(config, watchJobs, c.Log, registry)
				}
			}
			return webhook.Run(command.Context(), c)
		},
	}
	flags := command.Flags()
	flags.StringVar(&c.CertDir, "cert-dir", "/etc/spark-vitals/certs", "folder of tls.crt and tls.key; read again when they change")
	flags.StringVar(&policyFile, "policy", "", "policy file; by default the rule set \"default\"")
	flags.StringVar(&validation, "validation", "warn", "what /validate does about unreadable settings and harmful probes: warn, or deny (drivers only)")
	flags.BoolVar(&watchDrivers, "watch-drivers", false, "watch the metadata of drivers, so that a rule's remedy can change their later executors")
	flags.BoolVar(&watchJobs, "watch-spark-jobs", false, "with --watch-drivers, watch the metadata of SparkJobs too, so that a rule's nextRun can change drivers")
	api.AddKubeconfig(flags)
	flags.StringVar(&c.BindAddress, "bind-address", ":9443", "address to serve reviews on")
	job.AddServers(flags, &c.MetricsBindAddress, &c.HealthProbeBindAddress)
	flags.DurationVar(&c.ShutdownDelay, "shutdown-delay", 10*time.Second, "how long to serve after SIGTERM")
	api.AddLogLevel(flags)
	return command
}

func denies(validation string) (bool, error) {
	switch validation {
	case "warn":
		return false, nil
	case "deny":
		return true, nil
	}
	return false, fmt.Errorf("--validation is %q; it must be warn or deny", validation)
}

// readPolicy reads a policy file; "" is the ready-made default.
func readPolicy(file string) (*policy.Policy, error) {
	if file == "" {
		return policy.Default(), nil
	}
	source, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading --policy: %w", err)
	}
	parsed, err := policy.Parse(source)
	if err != nil {
		return nil, fmt.Errorf("policy %s:\n%w", file, err)
	}
	return parsed, nil
}

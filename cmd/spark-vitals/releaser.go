package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/spark-vitals/spark-vitals/gateway"
	"github.com/spark-vitals/spark-vitals/gateway/kyuubi"
	"github.com/spark-vitals/spark-vitals/gateway/releaser"
	"github.com/spark-vitals/spark-vitals/internal/job"
)

func releaserCommand() *cobra.Command {
	var (
		c           releaser.Config
		file        string
		check       bool
		api         job.Flags
		description = `Watch the drivers that Apache Kyuubi launched, and make it forget those that died. The
releaser removes their registration, so a client that reconnects gets a new driver. It
closes their sessions when clients have had the time to read the error. It reads the
configuration once, and the files that it names again for each release.`
	)
	command := &cobra.Command{
		Use:   "releaser",
		Short: "Make Apache Kyuubi forget dead drivers",
		Long:  description,
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) (err error) {
			c.Log = api.Log(command.ErrOrStderr())
			job.LimitMemory(c.Log)
			if err := configureGateway(&c, file); err != nil || check {
				return err
			}
			if c.Namespace, err = api.OwnNamespace(); err != nil {
				return err
			}
			if c.API, err = api.API(); err != nil {
				return err
			}
			return releaser.Run(command.Context(), c)
		},
	}
	flags := command.Flags()
	flags.StringVar(&file, "config", "", "Kyuubi's configuration, a YAML file; required")
	flags.BoolVar(&check, "check", false, "only check the configuration, offline")
	api.AddNamespace(flags, "the lease and the journal")
	job.AddServers(flags, &c.MetricsBindAddress, &c.HealthProbeBindAddress)
	api.AddKubeconfig(flags)
	api.AddLogLevel(flags)
	return command
}

// configureGateway reads the configuration of Kyuubi.
func configureGateway(c *releaser.Config, file string) error {
	if file == "" {
		return errors.New("--config is missing: name Kyuubi's configuration, a YAML file")
	}
	source, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("reading --config: %w", err)
	}
	parsed, err := kyuubi.ParseConfig(source)
	if err != nil {
		return fmt.Errorf("configuration %s:\n%w", file, err)
	}
	warnOfStrangers(c.Log, parsed)
	c.Namespaces, c.KeepSessions = parsed.Namespaces, parsed.KeepSessions()
	c.Gateway = func(r client.Reader) gateway.Gateway { return kyuubi.New(parsed, r) }
	return nil
}

// warnOfStrangers warns if a pod with the labels that a Service selects becomes one of
// its servers, and is sent the credentials.
func warnOfStrangers(log *slog.Logger, c *kyuubi.Config) {
	s := c.Servers
	if s.Service != nil && s.TLS == nil && (s.Basic != nil || s.Bearer != nil) && slices.Contains(c.Namespaces, s.Service.Namespace) {
		log.Warn("anyone who may create pods in Kyuubi's namespace can pose as one of its servers and receive the credentials; set servers.tls, or launch engines in another namespace",
			"namespace", s.Service.Namespace)
	}
}

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/spark-vitals/spark-vitals/gateway"
	"github.com/spark-vitals/spark-vitals/gateway/kyuubi"
	"github.com/spark-vitals/spark-vitals/gateway/releaser"
)

func releaserCommand() *cobra.Command {
	var (
		c           releaser.Config
		file        string
		check       bool
		api         apiFlags
		description = `Watch the drivers that Apache Kyuubi launched, and have it forget those that died:
their registration is removed, so that whoever reconnects gets a new one, and
their sessions are closed when clients have had the time to read the error. The
configuration is read once; files that it names are read anew for each release.`
	)
	command := &cobra.Command{
		Use:   "releaser",
		Short: "Have Apache Kyuubi forget dead drivers",
		Long:  description,
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) (err error) {
			c.Log = logTo(logger(command.ErrOrStderr(), &api.level))
			limitMemory(c.Log)
			if err := configureGateway(&c, file); err != nil || check {
				return err
			}
			if c.Namespace, err = ownNamespace(c.Namespace); err != nil {
				return err
			}
			if c.API, err = restConfig(api.kubeconfig); err != nil {
				return err
			}
			return releaser.Run(command.Context(), c)
		},
	}
	flags := command.Flags()
	flags.StringVar(&file, "config", "", "Kyuubi's configuration, a YAML file; needed")
	flags.BoolVar(&check, "check", false, "only check the configuration, offline")
	flags.StringVar(&c.Namespace, "namespace", "", "where the lease and the journal are kept; the pod's own namespace by default")
	flags.StringVar(&c.MetricsBindAddress, "metrics-bind-address", ":8080", "address to serve /metrics on")
	flags.StringVar(&c.HealthProbeBindAddress, "health-probe-bind-address", ":8081", "address to serve /healthz and /readyz on")
	api.addKubeconfig(flags)
	api.addLogLevel(flags)
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
	c.Gateway = func(r client.Reader) gateway.Gateway { return kyuubi.New(parsed, r, c.Log) }
	return nil
}

// warnOfStrangers: a pod with the labels that a Service selects becomes one of
// its servers, and is sent the credentials.
func warnOfStrangers(log *slog.Logger, c *kyuubi.Config) {
	s := c.Servers
	if s.Service != nil && s.TLS == nil && (s.Basic != nil || s.Bearer != nil) && slices.Contains(c.Namespaces, s.Service.Namespace) {
		log.Warn("whoever may create pods beside Kyuubi can pose as one of its servers and be sent the credentials; set servers.tls, or launch engines in another namespace",
			"namespace", s.Service.Namespace)
	}
}

const namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

func ownNamespace(flag string) (string, error) {
	if flag != "" {
		return flag, nil
	}
	text, err := os.ReadFile(namespaceFile)
	if errors.Is(err, fs.ErrNotExist) {
		return "", errors.New("--namespace is missing: outside a cluster, say where the lease is kept")
	}
	return strings.TrimSpace(string(text)), err
}

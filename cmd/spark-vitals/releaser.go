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
	flags.StringVar(&file, "config", "", "Kyuubi's configuration, a YAML file; required")
	flags.BoolVar(&check, "check", false, "only check the configuration, offline")
	flags.StringVar(&c.Namespace, "namespace", "", "namespace of the lease and the journal; by default the pod's own")
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

// warnOfStrangers warns if a pod with the labels that a Service selects becomes one of
// its servers, and is sent the credentials.
func warnOfStrangers(log *slog.Logger, c *kyuubi.Config) {
	s := c.Servers
	if s.Service != nil && s.TLS == nil && (s.Basic != nil || s.Bearer != nil) && slices.Contains(c.Namespaces, s.Service.Namespace) {
		log.Warn("anyone who may create pods in Kyuubi's namespace can pose as one of its servers and receive the credentials; set servers.tls, or launch engines in another namespace",
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

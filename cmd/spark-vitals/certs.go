package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/spark-vitals/spark-vitals/certs"
	"github.com/spark-vitals/spark-vitals/internal/job"
)

func certsCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "certs",
		Short: "Keep the webhook's certificate, without cert-manager",
	}
	command.AddCommand(certsKeepCommand(), certsTrustCommand())
	return command
}

func certsKeepCommand() *cobra.Command {
	var (
		k                       certs.Keeper
		secret, configMap       string
		metricsBind, healthBind string
		api                     job.Flags
	)
	command := &cobra.Command{
		Use:   "keep",
		Short: "Keep a CA and a certificate in a Secret, and the CA's certificate in a ConfigMap; both objects must exist",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) (err error) {
			if k.Namespace, k.Secret, err = namespaced("secret", secret); err != nil {
				return err
			}
			namespace, name, err := namespaced("configmap", configMap)
			if err != nil {
				return err
			}
			if k.ConfigMap = name; namespace != k.Namespace {
				return fmt.Errorf("--configmap is in the namespace %s and --secret in %s; they must be in one", namespace, k.Namespace)
			}
			if err := k.Serving.Check(); err != nil {
				return err
			}
			if k.Client, err = api.Client(agent); err != nil {
				return err
			}
			k.Log = api.Log(command.ErrOrStderr())
			job.LimitMemory(k.Log)
			return keep(command.Context(), &k, metricsBind, healthBind)
		},
	}
	flags := command.Flags()
	flags.StringVar(&secret, "secret", "", "NAMESPACE/NAME of the Secret; required")
	flags.StringVar(&configMap, "configmap", "", "NAMESPACE/NAME of the ConfigMap for the CA's certificate; required")
	flags.StringSliceVar(&k.Serving.Hosts, "host", nil, "name or address in the certificate, such as webhook.spark-vitals.svc; can be repeated; required")
	flags.DurationVar(&k.Serving.Duration, "duration", 90*24*time.Hour, "how long a certificate is valid, at most 4000h")
	flags.DurationVar(&k.Serving.RenewBefore, "renew-before", 30*24*time.Hour, "how long before its expiry it is renewed")
	api.AddKubeconfig(flags)
	job.AddServers(flags, &metricsBind, &healthBind)
	api.AddLogLevel(flags)
	return command
}

func certsTrustCommand() *cobra.Command {
	var (
		configMap, configuration string
		timeout                  time.Duration
		api                      job.Flags
	)
	command := &cobra.Command{
		Use:   "trust",
		Short: "Make the webhook configurations trust the CA of the ConfigMap",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			namespace, name, err := namespaced("configmap", configMap)
			if err != nil {
				return err
			}
			if configuration == "" {
				return errors.New("--webhook-configuration is missing: the name of the webhook configurations")
			}
			client, err := api.Client(agent)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(command.Context(), timeout)
			defer cancel()
			return certs.Trust(ctx, client, namespace, name, configuration, api.Log(command.ErrOrStderr()))
		},
	}
	flags := command.Flags()
	flags.StringVar(&configMap, "configmap", "", "NAMESPACE/NAME of the ConfigMap with the CA's certificate; required")
	flags.StringVar(&configuration, "webhook-configuration", "", "name of the mutating and of the validating webhook configuration; required")
	api.AddKubeconfig(flags)
	flags.DurationVar(&timeout, "timeout", 2*time.Minute, "how long to wait for the CA")
	return command
}

// namespaced reads a flag of the form NAMESPACE/NAME.
func namespaced(flag, value string) (namespace, name string, err error) {
	namespace, name, found := strings.Cut(value, "/")
	if !found || namespace == "" || name == "" {
		return "", "", fmt.Errorf("--%s is %q; it must be NAMESPACE/NAME", flag, value)
	}
	return namespace, name, nil
}

// agent is the name by which the API server knows the calls.
var agent = "spark-vitals/" + version

// keep runs the keeper and serves its metrics and health, until the context ends.
func keep(ctx context.Context, k *certs.Keeper, metricsBind, healthBind string) error {
	registry := prometheus.NewRegistry()
	registry.MustRegister(k.Expiry())
	tasks, running := errgroup.WithContext(ctx)
	servers := job.Servers{Metrics: metricsBind, Health: healthBind, Registry: registry, Ready: func() error {
		if !k.Kept() {
			return errors.New("the Secret and the ConfigMap do not hold the certificates yet")
		}
		return nil
	}}
	if err := servers.Serve(running, tasks); err != nil {
		return err
	}
	tasks.Go(func() error { k.Keep(running); return nil })
	return tasks.Wait()
}

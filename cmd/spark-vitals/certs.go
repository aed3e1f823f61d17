package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"

	"github.com/spark-vitals/spark-vitals/certs"
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
		api                     apiFlags
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
			if k.Client, err = apiClient(api.kubeconfig); err != nil {
				return err
			}
			k.Log = logTo(logger(command.ErrOrStderr(), &api.level))
			limitMemory(k.Log)
			return keep(command.Context(), &k, metricsBind, healthBind)
		},
	}
	flags := command.Flags()
	flags.StringVar(&secret, "secret", "", "NAMESPACE/NAME of the Secret; required")
	flags.StringVar(&configMap, "configmap", "", "NAMESPACE/NAME of the ConfigMap for the CA's certificate; required")
	flags.StringSliceVar(&k.Serving.Hosts, "host", nil, "name or address in the certificate, such as webhook.spark-vitals.svc; can be repeated; required")
	flags.DurationVar(&k.Serving.Duration, "duration", 90*24*time.Hour, "how long a certificate is valid, at most 4000h")
	flags.DurationVar(&k.Serving.RenewBefore, "renew-before", 30*24*time.Hour, "how long before its expiry it is renewed")
	api.addKubeconfig(flags)
	flags.StringVar(&metricsBind, "metrics-bind-address", ":8080", "address to serve /metrics on")
	flags.StringVar(&healthBind, "health-probe-bind-address", ":8081", "address to serve /healthz and /readyz on")
	api.addLogLevel(flags)
	return command
}

func certsTrustCommand() *cobra.Command {
	var (
		configMap, configuration string
		timeout                  time.Duration
		api                      apiFlags
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
			client, err := apiClient(api.kubeconfig)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(command.Context(), timeout)
			defer cancel()
			return certs.Trust(ctx, client, namespace, name, configuration, logTo(logger(command.ErrOrStderr(), &api.level)))
		},
	}
	flags := command.Flags()
	flags.StringVar(&configMap, "configmap", "", "NAMESPACE/NAME of the ConfigMap with the CA's certificate; required")
	flags.StringVar(&configuration, "webhook-configuration", "", "name of the mutating and of the validating webhook configuration; required")
	api.addKubeconfig(flags)
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

func apiClient(kubeconfig string) (kubernetes.Interface, error) {
	config, err := restConfig(kubeconfig)
	if err != nil {
		return nil, err
	}
	config.UserAgent = "spark-vitals/" + version
	return kubernetes.NewForConfig(config)
}

// keep runs the keeper and serves its metrics and health, until the context ends.
func keep(ctx context.Context, k *certs.Keeper, metricsBind, healthBind string) error {
	registry := prometheus.NewRegistry()
	registry.MustRegister(k.Expiry())
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !k.Kept() {
			http.Error(w, "the Secret and the ConfigMap do not hold the certificates yet", http.StatusServiceUnavailable)
		}
	})
	metrics := http.NewServeMux()
	metrics.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	tasks, running := errgroup.WithContext(ctx)
	for flag, e := range map[string]struct {
		address string
		handler http.Handler
	}{"metrics-bind-address": {metricsBind, metrics}, "health-probe-bind-address": {healthBind, mux}} {
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", e.address)
		if err != nil {
			return fmt.Errorf("listening on --%s: %w", flag, err)
		}
		server := &http.Server{Handler: e.handler, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second}
		context.AfterFunc(running, func() { _ = server.Close() })
		tasks.Go(func() error {
			if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		})
	}
	tasks.Go(func() error { k.Keep(running); return nil })
	return tasks.Wait()
}

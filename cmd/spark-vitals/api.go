package main

import (
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

// apiFlags are the flags of each job that calls the API server or runs for long.
type apiFlags struct {
	kubeconfig string
	level      slog.LevelVar
}

func (f *apiFlags) addKubeconfig(flags *pflag.FlagSet) {
	flags.StringVar(&f.kubeconfig, "kubeconfig", "", "file that says how to reach the API server; by default the one that KUBECONFIG names, else the pod's service account")
}

func (f *apiFlags) addLogLevel(flags *pflag.FlagSet) {
	flags.TextVar(&f.level, "log-level", &f.level, "debug, info, warn or error")
}

// logTo is the job's log: JSON lines. client-go logs through klog, so that is
// redirected to it.
func logTo(log *slog.Logger) *slog.Logger {
	klog.SetSlogLogger(log)
	return log
}

// restConfig of a kubeconfig; "" is that of the variable KUBECONFIG, else the pod's
// service account. It limits no calls: how many the API server admits is decided by
// its own priority and fairness.
func restConfig(kubeconfig string) (*rest.Config, error) {
	config, err := loadConfig(kubeconfig)
	if err == nil {
		config.QPS = -1
	}
	return config, err
}

func loadConfig(kubeconfig string) (config *rest.Config, err error) {
	if kubeconfig == "" {
		kubeconfig = os.Getenv(clientcmd.RecommendedConfigPathEnvVar)
	}
	if kubeconfig == "" {
		if config, err = rest.InClusterConfig(); err != nil {
			return nil, fmt.Errorf("using the pod's service account, as --kubeconfig is not set: %w", err)
		}
		return config, nil
	}
	if config, err = clientcmd.BuildConfigFromFlags("", kubeconfig); err != nil {
		return nil, fmt.Errorf("reading --kubeconfig: %w", err)
	}
	return config, nil
}

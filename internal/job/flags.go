package job

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/pflag"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Flags are the flags that jobs have in common. Each job adds those that it reads.
type Flags struct {
	Kubeconfig string
	Namespace  string // of the job itself
	LogLevel   slog.LevelVar
}

// AddKubeconfig adds --kubeconfig.
func (f *Flags) AddKubeconfig(flags *pflag.FlagSet) {
	flags.StringVar(&f.Kubeconfig, "kubeconfig", "", "file that says how to reach the API server; by default the one that KUBECONFIG names, else the pod's service account")
}

// AddLogLevel adds --log-level.
func (f *Flags) AddLogLevel(flags *pflag.FlagSet) {
	flags.TextVar(&f.LogLevel, "log-level", &f.LogLevel, "debug, info, warn or error")
}

// AddNamespace adds --namespace. Its help names what is kept there.
func (f *Flags) AddNamespace(flags *pflag.FlagSet, kept string) {
	flags.StringVar(&f.Namespace, "namespace", "", "namespace of "+kept+"; by default the pod's own")
}

// AddServers adds the flags for the addresses of metrics and of health probes.
func AddServers(flags *pflag.FlagSet, metrics, health *string) {
	flags.StringVar(metrics, "metrics-bind-address", ":8080", "address to serve /metrics on")
	flags.StringVar(health, "health-probe-bind-address", ":8081", "address to serve /healthz and /readyz on")
}

const namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// OwnNamespace returns the namespace of the flag, else the pod's own.
func (f *Flags) OwnNamespace() (string, error) {
	if f.Namespace != "" {
		return f.Namespace, nil
	}
	text, err := os.ReadFile(namespaceFile)
	if errors.Is(err, fs.ErrNotExist) {
		return "", errors.New("--namespace is missing: outside a cluster, say where the lease is kept")
	}
	return strings.TrimSpace(string(text)), err
}

// Client returns a client of the API server. Its audit log shows the agent.
func (f *Flags) Client(agent string) (kubernetes.Interface, error) {
	config, err := f.API()
	if err != nil {
		return nil, err
	}
	config.UserAgent = agent
	return kubernetes.NewForConfig(config)
}

// API returns how to reach the API server: by the file of the flag, else by the file of
// the variable KUBECONFIG, else as the pod's service account. The client does not limit
// the rate of its calls, because the API server does, by priority and fairness.
func (f *Flags) API() (*rest.Config, error) {
	config, err := f.load()
	if err == nil {
		config.QPS = -1
	}
	return config, err
}

func (f *Flags) load() (config *rest.Config, err error) {
	kubeconfig := f.Kubeconfig
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

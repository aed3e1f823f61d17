package cluster

import (
	"context"
	"crypto/rand"
	"fmt"
	"path/filepath"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// connect makes a client from the kubeconfig, without a limit of calls and without
// warnings on the terminal.
func (c *ControlPlane) connect() (err error) {
	if c.Config, err = clientcmd.BuildConfigFromFlags("", c.Kubeconfig); err != nil {
		return err
	}
	c.Config.QPS, c.Config.WarningHandler = -1, rest.NoWarnings{}
	c.Client, err = kubernetes.NewForConfig(c.Config)
	return err
}

// As returns the configuration of a service account, with its rights and no others.
func (c *ControlPlane) As(ctx context.Context, namespace, account string) (*rest.Config, error) {
	token, err := c.Client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, account, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("asking for a token of %s: %w", account, err)
	}
	config := rest.AnonymousClientConfig(c.Config)
	config.BearerToken, config.QPS, config.WarningHandler = token.Status.Token, -1, rest.NoWarnings{}
	return config, nil
}

// KubeconfigOf writes a kubeconfig for a configuration.
func (c *ControlPlane) KubeconfigOf(config *rest.Config) (file string, err error) {
	file = filepath.Join(c.Dir, rand.Text()+".kubeconfig")
	return file, writeKubeconfig(file, config)
}

func writeKubeconfig(file string, of *rest.Config) error {
	config := clientcmdapi.NewConfig()
	config.Clusters["e2e"] = &clientcmdapi.Cluster{Server: of.Host, CertificateAuthorityData: of.CAData}
	config.AuthInfos["e2e"] = &clientcmdapi.AuthInfo{Token: of.BearerToken}
	config.Contexts["e2e"] = &clientcmdapi.Context{Cluster: "e2e", AuthInfo: "e2e"}
	config.CurrentContext = "e2e"
	return clientcmd.WriteToFile(*config, file)
}

package chart

import (
	"context"
	"os"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"

	"github.com/spark-vitals/spark-vitals/e2e/cluster"
)

var (
	controlPlane *cluster.ControlPlane
	admin        kubernetes.Interface
	mapper       meta.RESTMapper
)

func TestMain(m *testing.M) {
	err := cluster.WithControlPlane(context.Background(), os.Stderr, func(c *cluster.ControlPlane) error {
		controlPlane, admin = c, c.Client
		if err := applyCRDs(context.Background()); err != nil {
			return err
		}
		groups, err := restmapper.GetAPIGroupResources(admin.Discovery())
		if err != nil {
			return err
		}
		mapper = restmapper.NewDiscoveryRESTMapper(groups)
		m.Run()
		return nil
	})
	if err != nil {
		panic(err)
	}
}

// as returns a client that impersonates a user.
func as(t *testing.T, user string, groups ...string) kubernetes.Interface {
	t.Helper()
	config := rest.CopyConfig(controlPlane.Config)
	config.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: append(groups, "system:authenticated")}
	return clientOf(t, config)
}

// withToken returns a client with a service account's own token and nothing else.
func withToken(t *testing.T, namespace, account string) kubernetes.Interface {
	t.Helper()
	return clientOf(t, tokenOf(t, namespace, account))
}

// tokenKubeconfig returns a kubeconfig of a service account.
func tokenKubeconfig(t *testing.T, namespace, account string) string {
	t.Helper()
	file, err := controlPlane.KubeconfigOf(tokenOf(t, namespace, account))
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func tokenOf(t *testing.T, namespace, account string) *rest.Config {
	t.Helper()
	config, err := controlPlane.As(t.Context(), namespace, account)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

func clientOf(t *testing.T, config *rest.Config) kubernetes.Interface {
	t.Helper()
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// namespace makes a namespace.
func namespace(t *testing.T, name string) string {
	t.Helper()
	return namespaceWith(t, name, nil)
}

func namespaceWith(t *testing.T, name string, labels map[string]string) string {
	t.Helper()
	if err := controlPlane.Namespace(t.Context(), name, labels); err != nil {
		t.Fatal(err)
	}
	return name
}

// freeAddress returns an address of loopback where nothing listens now.
func freeAddress(t *testing.T) string {
	t.Helper()
	address, err := cluster.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// allow binds a ClusterRole to a subject in a namespace.
func allow(t *testing.T, namespace, role string, subject rbacv1.Subject) {
	t.Helper()
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects:   []rbacv1.Subject{subject},
	}
	if _, err := admin.RbacV1().RoleBindings(namespace).Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func newPod(t *testing.T, namespace string, annotations map[string]string) *corev1.Pod {
	t.Helper()
	pod, err := admin.CoreV1().Pods(namespace).Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "pod-", Labels: map[string]string{"app": "test"}, Annotations: annotations},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "none"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return pod
}

// patch patches a pod or its status.
func patch(ctx context.Context, client kubernetes.Interface, pod *corev1.Pod, text string, subresource ...string) error {
	_, err := client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, []byte(text), metav1.PatchOptions{}, subresource...)
	return err
}

// Package bloat tests on a real API server that a user who may create pods cannot make
// the jobs that watch pods use too much memory.
package bloat

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/e2e/helm"
	"github.com/spark-vitals/spark-vitals/internal/eventually"
	"github.com/spark-vitals/spark-vitals/spark"
)

// Half of the memory limits of the chart, in bytes.
const (
	halfOfRecorder = 256 << 20
	halfOfLeader   = 128 << 20
)

// strangers is the number of large pods in the opted-in namespace where engines run.
// Some are running, because the stall watch sees only those.
const (
	strangers = 400
	running   = 40
	namespace = "spark"
)

// With 400 pods of 1.45 MB each job stays below half of its limit and continues to
// work, whether or not the API server streams lists.
func TestBloat(t *testing.T) {
	if err := cluster.WithControlPlane(t.Context(), os.Stderr, func(c *cluster.ControlPlane) error {
		prepare(t, c)
		for _, streams := range []string{"true", "false"} {
			t.Setenv("KUBE_FEATURE_WatchListClient", streams)
			name := "streams-" + streams
			t.Run(name+"/recorder", func(t *testing.T) { recorder(t, c, name) })
			t.Run(name+"/releaser", func(t *testing.T) {
				config := "namespaces: [spark]\nzookeeper: {servers: [\"127.0.0.1:1\"]}\nservers: {urls: [\"http://127.0.0.1:1\"], insecure: true}\n"
				leader(t, func() (*cluster.Leader, error) {
					return c.StartReleaser(t.Context(), "releaser-"+name, config, os.Stderr)
				})
			})
			t.Run(name+"/stallwatch", func(t *testing.T) {
				leader(t, func() (*cluster.Leader, error) {
					return c.StartStallWatch(t.Context(), "stallwatch-"+name, os.Stderr, "--metrics-bind-address=0")
				})
			})
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func recorder(t *testing.T, c *cluster.ControlPlane, name string) {
	rights, err := helm.Rights("spark-vitals", "recorder", nil)
	if err != nil {
		t.Fatal(err)
	}
	kubeconfig, err := c.Allow(t.Context(), rights, "")
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.StartRecorder(t.Context(), os.Stderr, kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Stop()
	kubelet := cluster.Kubelet{Interface: c.Client}
	driver, err := kubelet.Driver(t.Context(), namespace, "etl-"+name)
	if err == nil {
		_, err = kubelet.Die(t.Context(), driver, "OOMKilled", 137)
	}
	if err != nil {
		t.Fatal(err)
	}
	eventually.True(t, "the death is recorded", func() bool {
		p, err := kubelet.CoreV1().Pods(namespace).Get(t.Context(), driver.Name, metav1.GetOptions{})
		return err == nil && p.Annotations[annotations.State] != ""
	})
	small(t, r.Memory(), halfOfRecorder)
}

func leader(t *testing.T, start func() (*cluster.Leader, error)) {
	l, err := start()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Stop()
	small(t, l.Memory(), halfOfLeader)
}

func small(t *testing.T, used, limit int64) {
	t.Helper()
	t.Logf("%d MiB", used>>20)
	if used == 0 || used > limit {
		t.Errorf("it used %d MiB, and half of its limit is %d", used>>20, limit>>20)
	}
}

func prepare(t *testing.T, c *cluster.ControlPlane) {
	t.Helper()
	for name, labels := range map[string]map[string]string{"spark-vitals": nil, "kyuubi": nil, namespace: {annotations.Inject: "enabled"}} {
		if err := c.Namespace(t.Context(), name, labels); err != nil {
			t.Fatal(err)
		}
	}
	for _, manifest := range []string{"gateway/releaser/manifest.yaml", "stall/watch/role.yaml"} {
		if err := c.Apply(t.Context(), manifest); err != nil {
			t.Fatal(err)
		}
	}
	config := rest.CopyConfig(c.Config)
	config.ContentType, config.QPS = runtime.ContentTypeProtobuf, -1
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	making, ctx := errgroup.WithContext(t.Context())
	making.SetLimit(8)
	for i := range strangers {
		making.Go(func() error {
			pod, err := client.CoreV1().Pods(namespace).Create(ctx, stranger(i), metav1.CreateOptions{})
			if err == nil && i < running {
				_, err = client.CoreV1().Pods(namespace).Patch(ctx, pod.Name, types.MergePatchType, []byte(`{"status":{"phase":"Running"}}`), metav1.PatchOptions{}, "status")
			}
			return err
		})
	}
	if err := making.Wait(); err != nil {
		t.Fatal(err)
	}
}

// stranger returns a pod that every job takes for a driver, as large as the API server
// accepts, with the size in one field or in all.
func stranger(i int) *corev1.Pod {
	const large = 1_400_000
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: fmt.Sprintf("stranger-%d", i), Namespace: namespace,
			Labels: map[string]string{
				spark.RoleLabel: string(spark.Driver), spark.ApplicationLabel: fmt.Sprintf("spark-%d", i), "kyuubi-unique-tag": strconv.Itoa(i),
			},
			Annotations: map[string]string{annotations.LogStallAfter: "30m"},
		},
		Spec: corev1.PodSpec{
			NodeSelector: map[string]string{"no": "node"},
			Containers: []corev1.Container{{
				Name: spark.DriverContainer, Image: "x", Args: []string{"driver", "--class", "x"},
				Env: []corev1.EnvVar{{Name: "SPARK_DRIVER_BIND_ADDRESS", Value: "x"}},
			}},
		},
	}
	c := &p.Spec.Containers[0]
	switch i % 4 {
	case 0:
		c.Env[0].Value = strings.Repeat("x", large)
	case 1:
		c.Args[2] = strings.Repeat("x", large)
	case 2:
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", UID: "u", Name: strings.Repeat("x", large)}}
	case 3:
		for n := range 3000 {
			p.Labels[fmt.Sprintf("spark%0.240d/%0.63d", n, n)] = strings.Repeat("x", 63)
		}
		p.Annotations[annotations.OOM] = strings.Repeat("x", 200_000)
	}
	return p
}

package lab

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spark-vitals/spark-vitals/e2e/image"
)

// App is an application to submit.
type App struct {
	Namespace string
	Name      string
	Version   string        // of Spark
	Variant   image.Variant // of the image
	File      string        // a program below e2e/apps; "pi" is Spark's own example
	Class     string        // a class below /opt/classes, instead of a file
	Args      []string
	Conf      map[string]string // on top of what suits a small machine
}

// DriverName is the name of the application's driver pod.
func (a App) DriverName() string { return a.Name + "-driver" }

// Submit runs spark-submit in cluster mode, as a user would, and returns once the
// driver's pod exists.
func (l *Lab) Submit(ctx context.Context, a App) error {
	home, err := l.sparkImage(ctx, a.Version, a.Variant)
	if err != nil {
		return err
	}
	file := "local:///opt/apps/" + a.File
	if a.File == "pi" {
		file = "local:///opt/py/pyspark/examples/src/main/python/pi.py"
	}
	if a.Class != "" {
		jars, err := filepath.Glob(filepath.Join(home, "jars", "slf4j-api-*.jar")) // Spark wants some jar of the application's
		if err != nil || len(jars) == 0 {
			return fmt.Errorf("%s has no jars: %w", home, err)
		}
		file = "local:///opt/py/pyspark/jars/" + filepath.Base(jars[0])
	}
	args := []string{"--master", "k8s://" + l.Config.Host, "--deploy-mode", "cluster", "--name", a.Name}
	conf := map[string]string{
		"spark.kubernetes.driver.pod.name":                        a.DriverName(),
		"spark.kubernetes.authenticate.driver.serviceAccountName": account,
	}
	if a.Class != "" {
		conf["spark.driver.extraClassPath"] = "/opt/classes"
		args = append(args, "--class", a.Class)
	}
	args = append(args, a.conf(conf)...)
	cmd := exec.CommandContext(ctx, filepath.Join(home, "bin", "spark-submit"), append(append(args, file), a.Args...)...)
	cmd.Env = append(os.Environ(), "SPARK_HOME="+home, "KUBECONFIG="+l.Kubeconfig, "SPARK_LOCAL_HOSTNAME=localhost", "SPARK_SUBMIT_OPTS=-XX:TieredStopAtLevel=1 -Xshare:auto")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("submitting %s: %w\n%s", a.Name, err, out[:min(len(out), 6000)])
	}
	return nil
}

// conf returns the configuration of the application as arguments, after some others.
func (a App) conf(more map[string]string) (args []string) {
	conf := maps.Clone(small)
	maps.Copy(conf, map[string]string{
		"spark.kubernetes.namespace":              a.Namespace,
		"spark.kubernetes.container.image":        image.Name(a.Version, a.Variant),
		"spark.kubernetes.executor.podNamePrefix": a.Name,
	})
	maps.Copy(conf, more)
	maps.Copy(conf, a.Conf)
	for _, key := range slices.Sorted(maps.Keys(conf)) {
		args = append(args, "--conf", key+"="+conf[key])
	}
	return args
}

// RunClient runs spark-submit in client mode, as notebooks do, in a pod that Spark did
// not make, and returns the pod. If named, Spark knows the pod's name and makes it the
// owner of the executors.
func (l *Lab) RunClient(ctx context.Context, a App, named bool) (*corev1.Pod, error) {
	if _, err := l.sparkImage(ctx, a.Version, a.Variant); err != nil {
		return nil, err
	}
	conf := map[string]string{"spark.driver.host": "$(POD_IP)"}
	if named {
		conf["spark.kubernetes.driver.pod.name"] = a.Name
	}
	args := append([]string{"/opt/py/pyspark/bin/spark-submit", "--master", "k8s://https://kubernetes.default.svc", "--deploy-mode", "client", "--name", a.Name}, a.conf(conf)...)
	return l.Client.CoreV1().Pods(a.Namespace).Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: a.Name},
		Spec: corev1.PodSpec{
			ServiceAccountName: account, RestartPolicy: corev1.RestartPolicyNever,
			Containers: []corev1.Container{{
				Name: "notebook", Image: image.Name(a.Version, a.Variant), ImagePullPolicy: corev1.PullNever,
				Args: append(append(args, "/opt/apps/"+a.File), a.Args...),
				Env:  []corev1.EnvVar{{Name: "POD_IP", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.podIP"}}}},
			}},
		},
	}, metav1.CreateOptions{})
}

const account = "spark"

// small is a configuration for a machine of two cores.
var small = map[string]string{
	"spark.kubernetes.submission.waitAppCompletion": "false",
	"spark.executor.instances":                      "1",
	"spark.driver.memory":                           "512m",
	"spark.executor.memory":                         "512m",
	"spark.kubernetes.driver.request.cores":         "0.05",
	"spark.kubernetes.executor.request.cores":       "0.02",
	"spark.driver.extraJavaOptions":                 "-XX:TieredStopAtLevel=1",
	"spark.executor.extraJavaOptions":               "-XX:TieredStopAtLevel=1",
	// Spark waits 10 s for an API server; a machine may stall for as long.
	"spark.kubernetes.submission.connectionTimeout": "60000",
	"spark.kubernetes.submission.requestTimeout":    "60000",
	"spark.kubernetes.driver.connectionTimeout":     "60000",
	"spark.kubernetes.driver.requestTimeout":        "60000",
}

// NewNamespace makes a namespace anew, with the rights that a Spark driver needs.
func (l *Lab) NewNamespace(ctx context.Context, name string, labels map[string]string) error {
	if err := l.RemoveNamespace(ctx, name); err != nil {
		return err
	}
	labels = maps.Clone(labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[ownLabel] = "true"
	meta := metav1.ObjectMeta{Name: account, Namespace: name}
	steps := []func() error{
		func() error {
			_, err := l.Client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}, metav1.CreateOptions{})
			return err
		},
		func() error {
			_, err := l.Client.CoreV1().ServiceAccounts(name).Create(ctx, &corev1.ServiceAccount{ObjectMeta: meta}, metav1.CreateOptions{})
			return err
		},
		func() error {
			_, err := l.Client.RbacV1().Roles(name).Create(ctx, &rbacv1.Role{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{
				{APIGroups: []string{""}, Resources: []string{"pods", "services", "configmaps", "persistentvolumeclaims"}, Verbs: []string{"*"}},
				{APIGroups: []string{"apps"}, Resources: []string{"statefulsets", "deployments"}, Verbs: []string{"*"}},
				{APIGroups: []string{"networking.k8s.io"}, Resources: []string{"networkpolicies"}, Verbs: []string{"*"}},
			}}, metav1.CreateOptions{})
			return err
		},
		func() error {
			_, err := l.Client.RbacV1().RoleBindings(name).Create(ctx, &rbacv1.RoleBinding{
				ObjectMeta: meta,
				Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Name: account, Namespace: name}},
				RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: account},
			}, metav1.CreateOptions{})
			return err
		},
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return fmt.Errorf("making the namespace %s: %w", name, err)
		}
	}
	return nil
}

// ownLabel is on everything that the stories make. Nothing else is removed.
const ownLabel = "e2e"

// RemoveNamespace removes a namespace of the stories, if it exists, and waits until it
// is gone: two stories must not share the machine.
func (l *Lab) RemoveNamespace(ctx context.Context, name string) error {
	there, err := l.Client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if there.Labels[ownLabel] != "true" {
		return fmt.Errorf("the cluster has a namespace %s that is none of the stories'", name)
	}
	return l.Kubectl(ctx, nil, "delete", "namespace", name, "--ignore-not-found", "--wait", "--timeout=15m")
}

// Log returns the log of a pod's container so far.
func (l *Lab) Log(ctx context.Context, namespace, pod, container string) (string, error) {
	stream, err := l.Client.CoreV1().Pods(namespace).GetLogs(pod, &corev1.PodLogOptions{Container: container}).Stream(ctx)
	if err != nil {
		return "", err
	}
	defer stream.Close()
	text, err := io.ReadAll(stream)
	return string(text), err
}

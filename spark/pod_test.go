package spark_test

import (
	"encoding/json"
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spark-vitals/spark-vitals/internal/captured"
	"github.com/spark-vitals/spark-vitals/spark"
)

// Package spark reads what Spark 3.5.9 and 4.1.4 wrote into the captured pods.
func TestCapturedPods(t *testing.T) {
	type facts struct {
		role                      spark.Role
		container, class, version string
		driver                    string
		blockManager              int32
		heap, limit               int64
		workload                  bool
	}
	const python = "org.apache.spark.deploy.PythonRunner"
	want := map[string]facts{
		"spark-3.5.9/driver":               {role: spark.Driver, container: "spark-kubernetes-driver", class: python, version: "3.5.9", heap: 512, limit: 896},
		"spark-3.5.9/executor":             {role: spark.Executor, container: "spark-kubernetes-executor", version: "3.5.9", driver: "pi1-driver", heap: 512, limit: 896},
		"spark-3.5.9-template/driver":      {role: spark.Driver, container: "main", class: python, version: "3.5.9", heap: 512, limit: 896},
		"spark-3.5.9-template/executor":    {role: spark.Executor, container: "main", version: "3.5.9", driver: "f1-driver", blockManager: 7200, heap: 512, limit: 904},
		"spark-4.1.4/driver":               {role: spark.Driver, container: "spark-kubernetes-driver", class: python, version: "4.1.4", heap: 512, limit: 896},
		"spark-4.1.4/executor":             {role: spark.Executor, container: "spark-kubernetes-executor", version: "4.1.4", driver: "b1-driver", heap: 512, limit: 896},
		"spark-4.1.4-template/driver":      {role: spark.Driver, container: "main", class: python, version: "4.1.4", heap: 512, limit: 896},
		"spark-4.1.4-template/executor":    {role: spark.Executor, container: "main", version: "4.1.4", driver: "f2-driver", blockManager: 7200, heap: 512, limit: 904},
		"spark-4.1.4-statefulset/driver":   {role: spark.Driver, container: "spark-kubernetes-driver", class: python, version: "4.1.4", heap: 512, limit: 896},
		"spark-4.1.4-statefulset/executor": {role: spark.Executor, container: "spark-kubernetes-executor", version: "4.1.4", heap: 512, limit: 896, workload: true},
	}
	for _, review := range captured.Reviews() {
		if review.Kind() != "Pod" {
			continue
		}
		t.Run(review.Name, func(t *testing.T) {
			p, err := spark.PodOf(decode(t, review.Object()))
			if err != nil {
				t.Fatal(err)
			}
			driver, _ := p.Driver()
			blockManager, _ := p.BlockManager()
			m := p.Memory()
			got := facts{
				role: p.Role, container: p.Container().Name, class: p.MainClass(), version: p.Version(),
				driver: driver.Name, blockManager: blockManager, heap: m.Heap >> 20, limit: m.Limit >> 20, workload: p.FromWorkload(),
			}
			if got != want[review.Name] {
				t.Errorf("got  %+v\nwant %+v", got, want[review.Name])
			}
			if m.Estimated != (p.Role == spark.Driver) {
				t.Errorf("estimated is %v for a %s", m.Estimated, p.Role)
			}
			if p.OwnedByApacheOperator() {
				t.Error("taken for one of apache/spark-kubernetes-operator")
			}
			if _, ok := p.Port(spark.BlockManagerPort); !ok {
				t.Error("no block manager port")
			}
		})
	}
}

func decode(t *testing.T, object []byte) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{}
	if err := json.Unmarshal(object, pod); err != nil {
		t.Fatal(err)
	}
	return pod
}

// minimal returns the smallest pod that counts as Spark's. Tests change one thing of
// it.
func minimal(role spark.Role, tweak func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "n", Labels: map[string]string{spark.RoleLabel: string(role)}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "spark-kubernetes-" + string(role)}}},
	}
	tweak(pod)
	return pod
}

func env(name, value string) corev1.EnvVar { return corev1.EnvVar{Name: name, Value: value} }

func TestSparkContainer(t *testing.T) {
	tests := map[string]struct {
		role  spark.Role
		tweak func(*corev1.Pod)
		index int
		err   error
	}{
		"default name behind sidecars": {spark.Driver, func(p *corev1.Pod) {
			p.Spec.Containers = append([]corev1.Container{{Name: "istio-proxy"}, {Name: "log"}}, p.Spec.Containers...)
		}, 2, nil},
		"default name in front of a sidecar": {spark.Executor, func(p *corev1.Pod) {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "log", Args: []string{"tail"}})
		}, 0, nil},
		"custom name, by environment": {spark.Executor, func(p *corev1.Pod) {
			p.Spec.Containers = []corev1.Container{{Name: "log"}, {Name: "main", Env: []corev1.EnvVar{env("SPARK_EXECUTOR_ID", "3")}}}
		}, 1, nil},
		"custom name, by first argument": {spark.Driver, func(p *corev1.Pod) {
			p.Spec.Containers = []corev1.Container{{Name: "log", Args: []string{"tail"}}, {Name: "main", Args: []string{"driver", "--class", "x"}}}
		}, 1, nil},
		"a sidecar has Spark's name; the environment decides": {spark.Driver, func(p *corev1.Pod) {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "main", Env: []corev1.EnvVar{env("SPARK_DRIVER_BIND_ADDRESS", "")}})
		}, 1, nil},
		"a sidecar has Spark's name; the argument decides": {spark.Executor, func(p *corev1.Pod) {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "main", Args: []string{"executor"}})
		}, 1, nil},
		"two share the environment, and a third has Spark's name": {spark.Executor, func(p *corev1.Pod) {
			e := []corev1.EnvVar{env("SPARK_EXECUTOR_ID", "3")}
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "a", Env: e}, corev1.Container{Name: "b", Env: e})
		}, 0, spark.ErrNoContainer},
		"two share the environment and the argument; the name decides": {spark.Executor, func(p *corev1.Pod) {
			both := corev1.Container{Name: "copy", Env: []corev1.EnvVar{env("SPARK_EXECUTOR_ID", "3")}, Args: []string{"executor"}}
			sparks := *both.DeepCopy()
			sparks.Name = "spark-kubernetes-executor"
			p.Spec.Containers = []corev1.Container{both, sparks}
		}, 1, nil},
		"a sidecar copies the environment; the argument decides": {spark.Executor, func(p *corev1.Pod) {
			e := []corev1.EnvVar{env("SPARK_EXECUTOR_ID", "3")}
			p.Spec.Containers = []corev1.Container{{Name: "copy", Env: e}, {Name: "main", Env: e, Args: []string{"executor"}}}
		}, 1, nil},
		"two that cannot be told apart": {spark.Driver, func(p *corev1.Pod) {
			p.Spec.Containers = []corev1.Container{{Name: "a", Args: []string{"driver"}}, {Name: "b", Args: []string{"driver"}}}
		}, 0, spark.ErrNoContainer},
		"an operator's, with a command": {spark.Driver, func(p *corev1.Pod) {
			p.Spec.Containers[0].Command = []string{"/opt/entrypoint.sh"}
		}, 0, nil},
		"merely labelled": {spark.Driver, func(p *corev1.Pod) {
			p.Spec.Containers = []corev1.Container{{Name: "web", Args: []string{"serve"}}}
		}, 0, spark.ErrNoContainer},
		"the other role's name": {spark.Driver, func(p *corev1.Pod) {
			p.Spec.Containers[0].Name = "spark-kubernetes-executor"
		}, 0, spark.ErrNoContainer},
		"no containers":       {spark.Driver, func(p *corev1.Pod) { p.Spec.Containers = nil }, 0, spark.ErrNoContainer},
		"no label":            {spark.Driver, func(p *corev1.Pod) { p.Labels = nil }, 0, spark.ErrNoRole},
		"a Connect server":    {spark.Driver, func(p *corev1.Pod) { p.Labels[spark.RoleLabel] = "connect-server" }, 0, spark.ErrNoRole},
		"an init container's": {spark.Driver, func(p *corev1.Pod) { p.Spec.InitContainers, p.Spec.Containers = p.Spec.Containers, nil }, 0, spark.ErrNoContainer},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p, err := spark.PodOf(minimal(test.role, test.tweak))
			if !errors.Is(err, test.err) || err == nil && p.Index != test.index {
				t.Errorf("container %d, error %v; want %d, %v", p.Index, err, test.index, test.err)
			}
		})
	}
}

func TestApacheOperator(t *testing.T) {
	tests := map[string]func(*corev1.Pod){
		"label": func(p *corev1.Pod) { p.Labels["spark.operator/spark-app-name"] = "pi" },
		"owner": func(p *corev1.Pod) {
			p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "spark.apache.org/v1", Kind: "SparkApplication"}}
		},
		"owner before 0.1": func(p *corev1.Pod) {
			p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "org.apache.spark/v1alpha1", Kind: "SparkApplication"}}
		},
	}
	for name, tweak := range tests {
		if p, _ := spark.PodOf(minimal(spark.Driver, tweak)); !p.OwnedByApacheOperator() {
			t.Errorf("by %s: not recognised", name)
		}
	}
	kubeflow, _ := spark.PodOf(minimal(spark.Driver, func(p *corev1.Pod) {
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "sparkoperator.k8s.io/v1beta2", Kind: "SparkApplication"}}
	}))
	if kubeflow.OwnedByApacheOperator() {
		t.Error("kubeflow's operator is taken for Apache's")
	}
}

func TestDriver(t *testing.T) {
	yes := true
	owner := metav1.OwnerReference{APIVersion: "v1", Kind: "Pod", Name: "d", UID: "u", Controller: &yes}
	p, _ := spark.PodOf(minimal(spark.Executor, func(p *corev1.Pod) { p.OwnerReferences = []metav1.OwnerReference{owner} }))
	if ref, ok := p.Driver(); !ok || ref.Name != "d" || ref.Namespace != "n" || ref.UID != "u" {
		t.Errorf("driver is %+v, %v", ref, ok)
	}
	for name, tweak := range map[string]func(*corev1.Pod){
		"client mode": func(*corev1.Pod) {},
		"of a StatefulSet": func(p *corev1.Pod) {
			o := owner
			o.APIVersion, o.Kind = "apps/v1", "StatefulSet"
			p.OwnerReferences = []metav1.OwnerReference{o}
		},
		"not controlled": func(p *corev1.Pod) { o := owner; o.Controller = nil; p.OwnerReferences = []metav1.OwnerReference{o} },
	} {
		p, _ := spark.PodOf(minimal(spark.Executor, tweak))
		if ref, ok := p.Driver(); ok {
			t.Errorf("%s: driver is %+v", name, ref)
		}
	}
}

func TestBlockManager(t *testing.T) {
	tests := map[string]struct {
		options []string
		port    int32
		ok      bool
	}{
		"none":                 {nil, 0, false},
		"the driver's":         {[]string{"-Dspark.driver.blockManager.port=7079"}, 0, false},
		"set":                  {[]string{"-Dspark.driver.port=7078", "-Dspark.blockManager.port=7200"}, 7200, true},
		"random":               {[]string{"-Dspark.blockManager.port=0"}, 0, false},
		"nonsense":             {[]string{"-Dspark.blockManager.port=high"}, 0, false},
		"too high":             {[]string{"-Dspark.blockManager.port=70000"}, 0, false},
		"twice the same":       {[]string{"-Dspark.blockManager.port=7200", "-Dspark.blockManager.port=7200"}, 7200, true},
		"twice, another value": {[]string{"-Dspark.blockManager.port=7200", "-Dspark.blockManager.port=7300"}, 0, false},
	}
	for name, test := range tests {
		p, _ := spark.PodOf(minimal(spark.Executor, func(p *corev1.Pod) {
			for i, option := range test.options {
				p.Spec.Containers[0].Env = append(p.Spec.Containers[0].Env, env("SPARK_JAVA_OPT_"+string(rune('0'+i)), option))
			}
		}))
		if port, ok := p.BlockManager(); port != test.port || ok != test.ok {
			t.Errorf("%s: %d, %v; want %d, %v", name, port, ok, test.port, test.ok)
		}
	}
}

func TestEnvTakesTheLastAndOnlyLiterals(t *testing.T) {
	p, _ := spark.PodOf(minimal(spark.Driver, func(p *corev1.Pod) {
		p.Spec.Containers[0].Env = []corev1.EnvVar{env("A", "1"), env("A", "2"), {Name: "B", ValueFrom: &corev1.EnvVarSource{}}}
	}))
	if value, ok := p.Env("A"); value != "2" || !ok {
		t.Errorf("A is %q, %v", value, ok)
	}
	if _, ok := p.Env("B"); ok {
		t.Error("a value from elsewhere is not a literal")
	}
}

func TestTemplate(t *testing.T) {
	for _, role := range []spark.Role{spark.Driver, spark.Executor} {
		template := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "first"}, {Name: "second"}}}}
		p, err := spark.PodOf(spark.Template{Role: role}.Complete(template))
		if err != nil || p.Container().Name != "first" {
			t.Errorf("%s: %v", role, err)
		}
		p, err = spark.PodOf(spark.Template{Role: role, Container: "second", Version: "4.1.4", MainClass: "com.acme.Main"}.Complete(template))
		if err != nil || p.Container().Name != "second" || p.Version() != "4.1.4" || p.MainClass() != "com.acme.Main" {
			t.Errorf("%s by name: %v, %+v", role, err, p.Container())
		}
		if len(template.Labels) > 0 || len(template.Spec.Containers[0].Env) > 0 {
			t.Errorf("%s: the template was changed", role)
		}
		if _, err := spark.PodOf(spark.Template{Role: role}.Complete(&corev1.Pod{})); err != nil {
			t.Errorf("%s, empty template: %v", role, err)
		}
	}
}

// Spark's container names in a template decide nothing: Spark takes the first container
// unless its setting names another.
func TestTemplateDoubt(t *testing.T) {
	const main, named = "main", "spark-kubernetes-driver"
	tests := map[string]struct {
		containers []string
		container  string
		takes      string
		doubt      bool
	}{
		"no container":                         {nil, "", named, false},
		"no container, and one is named":       {nil, main, named, true},
		"one":                                  {[]string{main}, "", main, false},
		"Spark's name is the first":            {[]string{named, main}, "", named, false},
		"Spark's name is not the first":        {[]string{main, named}, "", main, true},
		"Spark's name is named":                {[]string{main, named}, named, named, false},
		"named":                                {[]string{main, named}, main, main, false},
		"an unknown name":                      {[]string{main, named}, "mian", main, true},
		"an unknown name, one container":       {[]string{main}, "mian", main, true},
		"an unknown name, Spark's is first":    {[]string{named, main}, "mian", named, true},
		"several, and none has Spark's name":   {[]string{"a", "b"}, "", "a", true},
		"several, and the second one is named": {[]string{"a", "b"}, "b", "b", false},
	}
	for name, test := range tests {
		template := spark.Template{Role: spark.Driver, Container: test.container}
		pod := &corev1.Pod{}
		for _, c := range test.containers {
			pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: c})
		}
		if doubt := template.Doubt(pod); (doubt != "") != test.doubt {
			t.Errorf("%s: %q", name, doubt)
		}
		if p, err := spark.PodOf(template.Complete(pod)); err != nil || p.Container().Name != test.takes {
			t.Errorf("%s: takes %+v, %v", name, p, err)
		}
	}
}

func TestExecutorID(t *testing.T) {
	for label, want := range map[string]int64{"1": 1, "412": 412, "0": 0, "-1": 0, "EXECID": 0, "": 0, "99999999999": 0} {
		p, _ := spark.PodOf(minimal(spark.Executor, func(p *corev1.Pod) { p.Labels[spark.ExecutorIDLabel] = label }))
		if id, ok := p.ExecutorID(); ok != (want > 0) || ok && id != want {
			t.Errorf("%q: %d, %v", label, id, ok)
		}
	}
}

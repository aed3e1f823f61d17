package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/yaml"

	"github.com/spark-vitals/spark-vitals/internal/strict"
	"github.com/spark-vitals/spark-vitals/spark"
)

// held is a pod template in an object of another kind.
type held struct {
	// application is the path of the Spark application in the object; at is the path of
	// the pod template below it.
	application, at string
	role            spark.Role // "" is that of the template's own label
	// fields is the path of the application's further fields of the pod (kubeflow), or
	// "".
	fields string
}

// holders are the pod templates in an object, by its kind. The key is "Kind.group" if
// several groups have the kind.
var holders = map[string][]held{
	"Deployment":                            {{at: "spec.template"}},
	"StatefulSet":                           {{at: "spec.template"}},
	"DaemonSet":                             {{at: "spec.template"}},
	"ReplicaSet":                            {{at: "spec.template"}},
	"ReplicationController":                 {{at: "spec.template"}},
	"Job":                                   {{at: "spec.template"}},
	"CronJob":                               {{at: "spec.jobTemplate.spec.template"}},
	"SparkApplication.sparkoperator.k8s.io": kubeflow("spec"),
	"ScheduledSparkApplication.sparkoperator.k8s.io": kubeflow("spec.template"),
	"SparkConnect.sparkoperator.k8s.io": {
		{"spec", "server.template", spark.Driver, "server"},
		{"spec", "executor.template", spark.Executor, "executor"},
	},
	"SparkApplication.spark.apache.org": {
		{"spec", "driverSpec.podTemplateSpec", spark.Driver, ""},
		{"spec", "executorSpec.podTemplateSpec", spark.Executor, ""},
	},
}

func kubeflow(spec string) []held {
	return []held{{spec, "driver.template", spark.Driver, "driver"}, {spec, "executor.template", spark.Executor, "executor"}}
}

func holdersOf(apiVersion, kind string) []held {
	if all, ok := holders[kind]; ok {
		return all
	}
	group, _, _ := strings.Cut(apiVersion, "/")
	return holders[kind+"."+group]
}

// spelled returns the known kind that differs from a kind only by case.
func spelled(kind string) string {
	known := []string{"Pod", "Service", "PodTemplate", "List", "PodList", "ServiceList", "PodTemplateList", "AdmissionReview", "Table", "ConfigMap"}
	for k := range maps.Keys(holders) {
		name, _, _ := strings.Cut(k, ".")
		known = append(known, name)
	}
	i := slices.IndexFunc(known, func(k string) bool { return k != kind && strings.EqualFold(k, kind) })
	if i < 0 {
		return ""
	}
	return known[i]
}

// readHolder reads the pod templates in an object. A ConfigMap has no fixed path for
// them.
func (in *input) readHolder(source string, data []byte, meta *header, all []held) error {
	before := len(in.objects)
	for _, h := range all {
		if err := in.readHeld(source, data, h, meta.Metadata.Name); err != nil {
			return err
		}
	}
	if all == nil {
		if err := in.readConfigMap(source, data); err != nil {
			return err
		}
	}
	for i := before; i < len(in.objects); i++ {
		in.objects[i].holder = meta.Kind + " " + meta.name()
	}
	if len(in.objects) == before {
		in.skip(source, meta.Kind, meta.name(), "it holds no pod template")
	}
	return nil
}

func (in *input) readHeld(source string, data []byte, h held, name string) error {
	var object map[string]any
	if err := json.Unmarshal(data, &object); err != nil {
		return err
	}
	application, _ := lookUp(object, h.application).(map[string]any)
	template, _ := lookUp(application, h.at).(map[string]any)
	if template == nil {
		if h.role == "" {
			return nil
		}
		template = map[string]any{}
	}
	pod, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": orEmpty(template["metadata"]), "spec": orEmpty(template["spec"])})
	if err != nil {
		return err
	}
	place := strings.TrimPrefix(h.application+"."+h.at, ".")
	r := reading{template: in.template, from: place}
	if h.role != "" {
		r = in.readingOf(h, application, place)
		r.name = name + "-" + string(h.role)
		if fields, ok := lookUp(application, h.fields).(map[string]any); ok && h.fields != "" {
			r.fill = func(p *corev1.Pod) error { return fillKubeflow(p, &r.template, application, fields) }
		}
	}
	if err := in.readPodAs(source+", "+place, pod, r); err != nil {
		return fmt.Errorf("%s: %w", place, err)
	}
	return nil
}

// readingOf returns how to read a template that Spark itself completes.
func (in *input) readingOf(h held, application map[string]any, place string) reading {
	conf, _ := application["sparkConf"].(map[string]any)
	text := func(at string) string { s, _ := lookUp(application, at).(string); return s }
	t := spark.Template{Role: h.role, Container: in.template.Container}
	prefix := "spark.kubernetes." + string(h.role) + "."
	if name, ok := conf[prefix+"podTemplateContainerName"].(string); ok && t.Container == "" {
		t.Container = name
	}
	t.Version = text("sparkVersion") + text("runtimeVersions.sparkVersion")
	if h.role == spark.Driver {
		runners := map[string]string{"Python": "org.apache.spark.deploy.PythonRunner", "R": "org.apache.spark.deploy.RRunner"} // by SparkSubmit.scala
		t.MainClass = cmp.Or(text("mainClass"), runners[text("type")])
	}
	r := reading{template: t, from: place, isTemplate: true}
	if file, ok := conf[prefix+"podTemplateFile"].(string); ok {
		r.hints = append(r.hints, fmt.Sprintf("%spodTemplateFile names %s, which is not looked into; preview that file with --role %s", prefix, file, h.role))
	}
	for _, at := range slices.Compact([]string{"", h.fields}) {
		fields, _ := lookUp(application, at).(map[string]any)
		for _, probe := range []string{"livenessProbe", "readinessProbe", "startupProbe"} {
			if _, ok := fields[probe]; ok {
				r.problems = append(r.problems, fmt.Errorf("%s: unknown field, which the operator ignores; a probe belongs to a container of %s", strings.Trim(h.application+"."+at, ".")+"."+probe, place))
			}
		}
	}
	return r
}

// fillKubeflow adds what kubeflow's operator and Spark make of the fields outside of
// the template, as far as rules read it.
func fillKubeflow(p *corev1.Pod, t *spark.Template, application, fields map[string]any) error {
	data, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	var f struct {
		Labels         map[string]string  `json:"labels"`
		Annotations    map[string]string  `json:"annotations"`
		Env            []corev1.EnvVar    `json:"env"`
		EnvVars        map[string]string  `json:"envVars"`
		Sidecars       []corev1.Container `json:"sidecars"`
		InitContainers []corev1.Container `json:"initContainers"`
		Memory         string             `json:"memory"`
		MemoryOverhead string             `json:"memoryOverhead"`
		MemoryLimit    string             `json:"memoryLimit"`
		HostNetwork    *bool              `json:"hostNetwork"`
	}
	if _, err := strict.Decode(data, &f, nil); err != nil {
		return err
	}
	if p.Labels == nil {
		p.Labels = map[string]string{}
	}
	if p.Annotations == nil {
		p.Annotations = map[string]string{}
	}
	maps.Copy(p.Labels, f.Labels)
	maps.Copy(p.Annotations, f.Annotations)
	p.Labels["sparkoperator.k8s.io/launched-by-spark-operator"] = "true"
	if f.HostNetwork != nil {
		p.Spec.HostNetwork = *f.HostNetwork
	}
	name := map[spark.Role]string{spark.Driver: spark.DriverContainer, spark.Executor: spark.ExecutorContainer}[t.Role]
	if len(p.Spec.Containers) == 0 {
		p.Spec.Containers = []corev1.Container{{Name: name}}
	} else if t.Container == "" {
		t.Container = name // the operator names it to Spark
	}
	c := &p.Spec.Containers[max(0, slices.IndexFunc(p.Spec.Containers, func(c corev1.Container) bool { return c.Name == t.Container }))]
	c.Env = append(c.Env, f.Env...)
	for _, key := range slices.Sorted(maps.Keys(f.EnvVars)) {
		c.Env = append(c.Env, corev1.EnvVar{Name: key, Value: f.EnvVars[key]})
	}
	if err := fillMemory(c, t.Role, application, f.Memory, f.MemoryOverhead, f.MemoryLimit); err != nil {
		return err
	}
	p.Spec.Containers = append(p.Spec.Containers, f.Sidecars...)
	p.Spec.InitContainers = append(p.Spec.InitContainers, f.InitContainers...)
	return nil
}

// fillMemory sets the memory of Spark's container as Spark computes it from the fields
// or from sparkConf. The fields override sparkConf. It leaves out what neither has.
func fillMemory(c *corev1.Container, role spark.Role, application map[string]any, memory, overhead, limit string) error {
	conf, _ := application["sparkConf"].(map[string]any)
	inConf := func(key string) string { s, _ := conf[key].(string); return s }
	prefix := "spark." + string(role) + "."
	if memory = cmp.Or(memory, inConf(prefix+"memory")); memory == "" {
		return nil
	}
	heap := bytesIn(memory)
	if heap == 0 {
		return fmt.Errorf("%s: memory: %q is not a size such as 4g", role, memory)
	}
	if role == spark.Executor {
		c.Env = append(c.Env, corev1.EnvVar{Name: "SPARK_EXECUTOR_MEMORY", Value: memory})
	}
	more := bytesIn(cmp.Or(overhead, inConf(prefix+"memoryOverhead")))
	if more == 0 {
		factor, known := factorOf(application, inConf("spark.kubernetes.memoryOverheadFactor"))
		if !known {
			return nil
		}
		more = max(int64(float64(heap>>20)*factor)<<20, 384<<20)
	}
	request := resource.NewQuantity(heap+more, resource.BinarySI)
	most := *request
	if limit != "" {
		if bytes := bytesIn(limit); bytes > 0 { // as Spark's settings write it, which the operator takes, too
			most = *resource.NewQuantity(bytes, resource.BinarySI)
		} else if parsed, err := resource.ParseQuantity(limit); err == nil {
			most = parsed
		} else {
			return fmt.Errorf("memoryLimit: %q is not a quantity such as 4Gi: %w", limit, err)
		}
	}
	setMemory(&c.Resources.Requests, *request)
	setMemory(&c.Resources.Limits, most)
	return nil
}

// factorOf returns the overhead's factor. Python and R have another default.
func factorOf(application map[string]any, conf string) (factor float64, known bool) {
	field, _ := application["memoryOverheadFactor"].(string)
	if given := cmp.Or(field, conf); given != "" {
		factor, err := strconv.ParseFloat(given, 64)
		return factor, err == nil && factor > 0 && factor < 100
	}
	if kind, _ := application["type"].(string); kind == "Python" || kind == "R" {
		return 0.4, true
	}
	return 0.1, true
}

func setMemory(list *corev1.ResourceList, q resource.Quantity) {
	if *list == nil {
		*list = corev1.ResourceList{}
	}
	(*list)[corev1.ResourceMemory] = q
}

// bytesIn returns the bytes in a size of Spark's settings.
func bytesIn(size string) int64 {
	if size == "" {
		return 0
	}
	return spark.DriverHeap("spark.driver.memory=" + size)
}

// executorTemplate is the key under which Spark keeps the executors' pod template in
// a ConfigMap of its own (Constants.scala, POD_TEMPLATE_KEY).
const executorTemplate = "podspec-configmap-key"

// readConfigMap reads the values that are pod templates or other objects.
func (in *input) readConfigMap(source string, data []byte) error {
	var c struct {
		Data map[string]string `json:"data"`
	}
	if _, err := strict.Decode(data, &c, nil); err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(c.Data)) {
		value := []byte(c.Data[key])
		if !bytes.Contains(value, []byte("containers")) {
			continue
		}
		at := fmt.Sprintf("data[%s]", key)
		template, err := yaml.YAMLToJSON(value)
		if err != nil && slices.Contains([]string{".yaml", ".yml", ".json"}, path.Ext(key)) {
			return fmt.Errorf("%s: %w", at, err)
		}
		var pod map[string]any
		if err != nil || json.Unmarshal(template, &pod) != nil {
			continue
		}
		if _, ok := lookUp(pod, "spec.containers").([]any); !ok {
			continue
		}
		if err := in.readPodAs(source+", "+at, template, in.readingOfKey(key, at, pod)); err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
	}
	return nil
}

// readingOfKey returns how a pod template under a key of a ConfigMap is read. Its role
// is the flag's, the template's label's, or the key's.
func (in *input) readingOfKey(key, at string, pod map[string]any) reading {
	r := reading{template: in.template, from: at}
	if r.template.Role == "" {
		label, _ := lookUp(pod, "metadata.labels."+spark.RoleLabel).(string)
		r.template.Role = spark.Role(label)
	}
	if key == executorTemplate {
		r.template.Role = spark.Executor
	}
	if r.template.Role == "" {
		for _, role := range []spark.Role{spark.Driver, spark.Executor} {
			if strings.Contains(strings.ToLower(key), string(role)) {
				r.template.Role = role
				r.hints = []string{fmt.Sprintf("read as a template of %ss because of its key; --role says otherwise", role)}
			}
		}
	}
	r.isTemplate = r.template.Role != ""
	return r
}

func orEmpty(value any) any {
	if value == nil {
		return map[string]any{}
	}
	return value
}

// lookUp returns a field by its path, such as "spec.template", or nil if there is
// none.
func lookUp(object any, path string) any {
	if path == "" {
		return object
	}
	for _, name := range strings.Split(path, ".") {
		fields, ok := object.(map[string]any)
		if !ok {
			return nil
		}
		object = fields[name]
	}
	return object
}

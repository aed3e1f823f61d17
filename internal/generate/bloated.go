package generate

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spark-vitals/spark-vitals/spark"
)

// Bloated returns a pod of Spark with every field set, in which every text that the API
// server does not bound is long, and every list and map has many entries. That includes
// fields of later versions of Kubernetes.
func Bloated(role spark.Role, container string) *corev1.Pod {
	p := &corev1.Pod{}
	bloat(reflect.ValueOf(p).Elem(), 0)
	p.Name, p.Namespace, p.UID, p.ResourceVersion, p.Labels = "p", "n", "u", "1", map[string]string{}
	for i := range 1000 {
		p.Labels[fmt.Sprintf("spark%0.200d/%0.63d", i, i)] = long[:63]
	}
	p.Labels[spark.RoleLabel] = string(role)
	last := len(p.Spec.Containers) - 1
	p.Spec.Containers[last].Name = container
	p.Status.ContainerStatuses[last].Name = container
	for name, value := range map[string]string{"SPARK_DRIVER_BIND_ADDRESS": long, "SPARK_EXECUTOR_MEMORY": long, "SPARK_JAVA_OPT_0": long + "OnOutOfMemoryError" + long} {
		p.Spec.Containers[last].Env = append(p.Spec.Containers[last].Env, corev1.EnvVar{Name: name, Value: value})
	}
	for range 20 {
		p.Spec.Containers[last].Args = append(p.Spec.Containers[last].Args, "--class", long, "--conf", "spark.driver.memory="+long)
	}
	for i := range p.Status.Conditions {
		p.Status.Conditions[i].Type = corev1.DisruptionTarget
	}
	return p
}

var long = strings.Repeat("x", 300<<10)

func bloat(v reflect.Value, depth int) {
	n := 20
	if depth > 2 {
		n = 2
	}
	switch v.Kind() { //nolint:exhaustive // of no other kind is a field of a pod
	case reflect.String:
		switch v.Interface().(type) {
		case string, types.UID, corev1.PodConditionType:
			v.SetString(long)
		default: // one of a few
			v.SetString(long[:20])
		}
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int32, reflect.Int64:
		v.SetInt(1)
	case reflect.Pointer:
		if depth < 8 {
			v.Set(reflect.New(v.Type().Elem()))
			bloat(v.Elem(), depth)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			bloat(v.Index(i), depth+1)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for i := range n {
			value := reflect.New(v.Type().Elem()).Elem()
			bloat(value, depth+1)
			v.SetMapIndex(reflect.ValueOf(strconv.Itoa(i)).Convert(v.Type().Key()), value)
		}
	case reflect.Struct:
		switch v.Interface().(type) {
		case resource.Quantity:
			v.Set(reflect.ValueOf(resource.MustParse("1Gi")))
		case metav1.Time:
			v.Set(reflect.ValueOf(metav1.Unix(1, 0)))
		default:
			for i := range v.NumField() {
				if v.Field(i).CanSet() {
					bloat(v.Field(i), depth)
				}
			}
		}
	}
}

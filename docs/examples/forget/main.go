// Command forget prints the Spark drivers that a gateway has to forget, one JSON
// object a line. Do the gateway's own work instead of the printing.
package main

import (
	"encoding/json"
	"log"
	"os"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/spark"
)

var forgotten sync.Map // of UIDs: the same driver is seen again and again

func main() {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG")) // in a cluster: the pod's own account
	if err != nil {
		log.Fatal(err)
	}
	pods := informers.NewSharedInformerFactoryWithOptions(kubernetes.NewForConfigOrDie(config), 0,
		informers.WithNamespace(os.Getenv("NAMESPACE")),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.LabelSelector = "spark-role=driver" }),
	).Core().V1().Pods().Informer()
	if _, err := pods.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    look,
		UpdateFunc: func(_, now any) { look(now) },
		DeleteFunc: look, // a driver may die and be deleted at once
	}); err != nil {
		log.Fatal(err)
	}
	pods.Run(nil) // for ever
}

func look(seen any) {
	if last, ok := seen.(cache.DeletedFinalStateUnknown); ok {
		seen = last.Obj
	}
	pod, ok := seen.(*corev1.Pod)
	if !ok || pod.Annotations[annotations.State] == "" || !ended(pod) {
		return
	}
	if _, again := forgotten.LoadOrStore(pod.UID, true); again {
		return
	}
	_ = json.NewEncoder(os.Stdout).Encode(map[string]any{
		"uid":         pod.UID,
		"application": pod.Labels["spark-app-selector"], // or the label that your gateway puts on its drivers
		"addresses":   pod.Status.PodIPs,                // what you forget must be registered there
		"reason":      pod.Annotations[annotations.Reason],
		"message":     pod.Annotations[annotations.Message],
	})
}

// ended asks the status about Spark's container, and about no other. Unlike the
// record, tenants cannot write it. A driver that never ran has only the phase.
func ended(pod *corev1.Pod) bool {
	driver, err := spark.PodOf(pod)
	if err != nil {
		return false
	}
	if status := driver.ContainerStatus(); status != nil {
		switch state := status.State; {
		case state.Terminated != nil:
			return state.Terminated.ExitCode != 0
		case state.Running != nil:
			return false
		}
	}
	return pod.Status.Phase == corev1.PodFailed
}

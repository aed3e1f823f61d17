package recorder

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
)

// Application is a Spark application as its pods show it.
type Application struct {
	// Driver is nil if no driver's pod is among the pods.
	Driver    *corev1.Pod
	Executors []*corev1.Pod
}

// Applications sorts pods by application: each executor belongs to the driver on which
// the recorder would write how it died. Pods that are not Spark's are left out.
func Applications(pods []*corev1.Pod) (all []*Application) {
	type name struct{ namespace, id string }
	named := map[name][]*corev1.Pod{}
	for _, p := range pods {
		if pod, err := spark.PodOf(p); err == nil && pod.Role == spark.Driver {
			of := name{p.Namespace, pod.Application()}
			named[of] = append(named[of], p)
		}
	}
	drivers, withoutDriver := map[*corev1.Pod]*Application{}, map[application]*Application{}
	driverOf := map[application]*corev1.Pod{}
	for _, p := range pods {
		pod, err := spark.PodOf(p)
		if err != nil {
			continue
		}
		app, driver := applicationOf(pod), p
		if pod.Role == spark.Executor {
			if found, known := driverOf[app]; known {
				driver = found
			} else {
				driver = app.among(named[name{app.namespace, app.id}]).Pod
				driverOf[app] = driver
			}
		}
		a := withoutDriver[app]
		if driver != nil {
			a = drivers[driver]
		}
		if a == nil {
			a = &Application{Driver: driver}
			all = append(all, a)
			if driver == nil {
				withoutDriver[app] = a
			} else {
				drivers[driver] = a
			}
		}
		if pod.Role == spark.Executor {
			a.Executors = append(a.Executors, p)
		}
	}
	return all
}

// AddTo adds to a record the deaths that the pods' statuses show, as the recorder does.
func (a *Application) AddTo(record *oom.Record) {
	if a.Driver != nil {
		record.Add(oom.Terminations(oom.Evidence{Pod: a.Driver})...)
	}
	driver := spark.Pod{}
	if a.Driver != nil {
		driver = a.Pod()
	}
	for _, p := range a.Executors {
		evidence := oom.Evidence{Pod: p}
		ended := slices.DeleteFunc(oom.Ended(evidence), func(t oom.Termination) bool { return outlived(driver, &t) })
		record.Add(slices.Concat(oom.Terminations(evidence), ended)...)
	}
	sawExecutors(record, a.Executors)
}

// Pod returns the pod for which advice is worked out: the driver's, or an executor's if
// the driver's is not known. An Application has one of the two.
func (a *Application) Pod() spark.Pod {
	p := a.Driver
	if p == nil {
		p = a.Executors[0]
	}
	pod, _ := spark.PodOf(p) // Applications has left out all others
	return pod
}

// Key identifies the application: its driver's UID, or what its executors know of it.
func (a *Application) Key() string {
	app := applicationOf(a.Pod())
	return app.namespace + "/" + app.id + "/" + string(app.driver)
}

// sawExecutors notes how many executors there were.
func sawExecutors(record *oom.Record, pods []*corev1.Pod) {
	for _, p := range pods {
		if pod, err := spark.PodOf(p); err == nil && pod.Role == spark.Executor {
			if id, ok := pod.ExecutorID(); ok {
				record.SawExecutor(id)
			}
		}
	}
}

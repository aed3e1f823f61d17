package patches

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/spark-vitals/spark-vitals/policy"
	"github.com/spark-vitals/spark-vitals/spark"
)

// Patch changes a pod as its rule requires, or leaves it alone and reports why.
type Patch func(*Pod, policy.Choice)

// all is all patches in the order in which they are applied: a probe of the block
// manager's port needs the port to be real.
var all = []struct {
	name  string // of its goldens: testdata/<name>-*.txtar
	patch Patch
}{
	{"remedy", remedy},
	{"nextrun", nextRun},
	{"memory", memoryAnnotations},
	{"blockmanager", blockManagerPort},
	{"processtreemetrics", processTreeMetrics},
	{"terminationmessage", fallbackToLogsOnError},
	{"exitonoom", exitOnOutOfMemoryError},
	{"logstall", logStall},
	{"probes", probes},
}

// Apply changes the pod as its policy chose and returns the operations that do the
// same to the JSON that the pod was decoded from. In audit mode the operations only
// write stamps, while pod becomes what it would be.
//
// The operations apply to any JSON that decodes to the pod, whatever unknown fields it
// has. The result is a valid pod if the given one was.
func Apply(pod spark.Pod, choice policy.Choice) Result {
	p := &Pod{Pod: pod, annotated: annotated{meta: &pod.ObjectMeta}, audit: choice.Mode == policy.Audit, effective: pod}
	if p.audit {
		p.effective.Pod = pod.DeepCopy()
	}
	p.earlier = earlierStamp(pod.Annotations)
	p.warn(choice.Warnings...)
	if choice.Rule != nil {
		for _, each := range all {
			each.patch(p, choice)
		}
		p.stampReport(choice, &p.report)
	}
	p.writeStamps()
	return p.result(choice, p.report)
}

// Clean removes what only spark-vitals writes from a pod that is not Spark's, and
// returns the operations that do.
func Clean(pod *corev1.Pod) Result {
	a := annotated{meta: &pod.ObjectMeta}
	a.writeStamps()
	return Result{Operations: a.operations}
}

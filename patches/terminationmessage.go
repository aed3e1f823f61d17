package patches

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/spark-vitals/spark-vitals/policy"
)

// fallbackToLogsOnError sets terminationMessagePolicy: FallbackToLogsOnError on
// Spark's container, so that the end of a failed container's log (2 KiB at most)
// stands in the pod's status. The JVM's "Terminating due to
// java.lang.OutOfMemoryError" and the traceback of a Python program are found
// nowhere else once the pod is gone.
//
// It is a piece of the application's log, readable by whoever may read pods;
// hence a switch. What the container itself writes to its termination message
// still counts first. Left alone where the user has another path for it. File,
// the API server's default, cannot be told from the user's and counts as unset.
func fallbackToLogsOnError(p *Pod, c policy.Choice) {
	const field = "terminationMessagePolicy"
	if !c.Rule.FallbackToLogsOnError {
		return
	}
	if path := p.Container().TerminationMessagePath; path != "" && path != corev1.TerminationMessagePathDefault {
		p.leave(field, "the user set a terminationMessagePath")
		return
	}
	if p.Container().TerminationMessagePolicy != corev1.TerminationMessageFallbackToLogsOnError {
		p.setTerminationMessagePolicy(corev1.TerminationMessageFallbackToLogsOnError)
	}
	p.did(field, "a failed container's last log lines are in the pod's status")
}

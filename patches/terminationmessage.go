package patches

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/spark-vitals/spark-vitals/policy"
)

// fallbackToLogsOnError sets terminationMessagePolicy: FallbackToLogsOnError on Spark's
// container, so that the end of a failed container's log (2 KiB at most) is in the
// pod's status. Once the pod is gone, nothing else has the JVM's "Terminating due to
// java.lang.OutOfMemoryError" and the traceback of a Python program.
//
// It is a piece of the application's log, and anyone who may read pods can read it; so
// there is a setting to turn it off. What the container itself writes to its
// termination message still comes first. It leaves the policy alone if the user has
// another path for the message. File, the API server's default, looks the same whether
// the user set it or not, and counts as unset.
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

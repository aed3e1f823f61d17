package oom

import (
	"fmt"
	"math"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/spark"
)

// ProbeFailure is the probe that ended a container by its failure.
type ProbeFailure struct {
	// Probe is "startup" or "liveness". It is "" if the pod has both, because it is not
	// known which one failed; the other fields are then empty.
	Probe string `json:"probe,omitempty"`
	// Injected is true if the webhook set the probe.
	Injected         bool  `json:"injected,omitempty"`
	PeriodSeconds    int32 `json:"periodSeconds,omitempty"`
	FailureThreshold int32 `json:"failureThreshold,omitempty"`
}

// probeFailure returns the probe of Spark's container that can end it, if there is only
// one.
func probeFailure(pod spark.Pod) *ProbeFailure {
	c := pod.Container()
	failure := &ProbeFailure{}
	for name, probe := range map[string]*corev1.Probe{"startup": c.StartupProbe, "liveness": c.LivenessProbe} {
		switch {
		case probe == nil, probe.FailureThreshold == math.MaxInt32: // it never gives up
		case failure.Probe != "":
			return &ProbeFailure{}
		default:
			failure = &ProbeFailure{name, annotations.ReadStamp(pod.Annotations[annotations.Injected]).HasSet(name + "Probe"), probe.PeriodSeconds, probe.FailureThreshold}
		}
	}
	return failure
}

// InjectedProbes returns the part of a stamp that this package reads, as a stamp. It
// returns "" if the webhook set no such probe.
func InjectedProbes(stamp string) string {
	var read annotations.Stamp
	for _, field := range []string{"startupProbe", "livenessProbe"} {
		if annotations.ReadStamp(stamp).HasSet(field) {
			read.Set = append(read.Set, field)
		}
	}
	if len(read.Set) == 0 {
		return ""
	}
	return read.String()
}

func (a *adviser) hung() string {
	fact, failure := a.who()+" was ended by the kubelet because its ", a.ProbeFailure
	if failure == nil || failure.Probe == "" {
		return join(fact+"startup or liveness probe failed: it did not answer.", a.howMany, notKnown, "If it was merely slow, raise the failureThreshold of that probe.")
	}
	fact += fmt.Sprintf("%s probe failed %d times, %d s apart: it did not answer.", failure.Probe, failure.FailureThreshold, failure.PeriodSeconds)
	next := 2 * int(failure.FailureThreshold)
	why := notKnown
	remedy := fmt.Sprintf("If it was merely slow, raise the failureThreshold of the %s probe in %s to %d.", failure.Probe, a.podTemplate(), next)
	if failure.Injected {
		setting := a.annotation(annotations.Prefix + failure.Probe + ".failureThreshold")
		a.note(Change{Setting: setting, Now: strconv.Itoa(int(failure.FailureThreshold)), Next: strconv.Itoa(next)})
		remedy = fmt.Sprintf("If it was merely slow, set %s=%d.", setting, next)
		if failure.Probe == "liveness" && a.Role == spark.Driver {
			why = notKnownAsked
		}
	}
	return join(fact, a.howMany, why, remedy)
}

const (
	notKnown = "It is not known why it did not answer. Its last log lines may show it."
	// notKnownAsked is about a driver that the rule set's check asked for a thread dump. A
	// frozen JVM writes none.
	notKnownAsked = "It is not known why it did not answer. Its last log lines may show it, or a thread dump in its log."
)

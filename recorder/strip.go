package recorder

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/internal/bounded"
	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
)

// reading is what the recorder keeps of a pod, so that a cluster's Spark pods fit into
// memory.
var reading = bounded.Reading{Annotation: readAnnotation, Message: readMessage, Condition: annotations.DeathCondition}

// strip removes what the recorder does not read from a pod.
func strip(p *corev1.Pod) *corev1.Pod { return reading.Pod(p) }

func readAnnotation(role spark.Role, key, value string) (kept string, ok bool) {
	switch {
	case key == annotations.OOM && role == spark.Driver && len(value) <= oom.MaxBytes:
		return value, true
	case key == annotations.Remedy && role == spark.Driver && len(value) <= annotations.MaxRemedy:
		return value, true
	case slices.Contains(annotations.Death, key), key == annotations.Previous, key == annotations.Inject:
		return bounded.Text(value), true // its presence is read too
	case key == annotations.RemedyRule, key == annotations.Remedied, (key == annotations.RemedyMode || key == annotations.Job) && role == spark.Driver:
		return bounded.Text(value), true
	case key == annotations.Injected:
		return oom.InjectedProbes(value), true // its presence is read too
	case key == oom.ExitException:
		return cmp.Or(readMessage(spark.Driver, value), "not of memory"), true // the advice depends on its presence too
	}
	return "", false
}

// readMessage keeps the part of a long text that package oom understands.
func readMessage(role spark.Role, text string) string {
	return bounded.Text(oom.WordsOf(role, text).String())
}

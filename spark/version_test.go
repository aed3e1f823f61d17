package spark_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spark-vitals/spark-vitals/spark"
)

// Versions are compared by their numbers. What cannot be read counts as older.
func TestIsAtLeast(t *testing.T) {
	for label, want := range map[string]bool{
		"4.2.0": true, "4.2": true, "4.10.1": true, "5.0.0": true, "10.0.0": true, "4.2.0-preview1": true, "4.2.0.7.3190.0-91": true,
		"4.1.4": false, "3.5.9": false, "3.10.0": false, "": false, "latest": false, "v4.3.0": false,
	} {
		pod := spark.Pod{Pod: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{spark.VersionLabel: label}}}}
		if got := pod.IsAtLeast("4.2"); got != want {
			t.Errorf("%q is at least 4.2: %v", label, got)
		}
	}
}

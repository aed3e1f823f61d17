package recorder

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	kubetesting "k8s.io/client-go/testing"

	"github.com/spark-vitals/spark-vitals/annotations"
)

// A recorder that ends tries all once before it tries any again: the namespace
// where writes fail takes nothing from another.
func TestFinishIsFair(t *testing.T) {
	s := recording(t, dead(t, "OOMKilled"))
	s.PrependReactor("patch", "pods", func(a kubetesting.Action) (bool, runtime.Object, error) {
		return a.GetNamespace() == "broken", nil, errors.New("the disk is full")
	})
	for i := range 10 * workers {
		p := dead(t, "OOMKilled")
		p.Namespace, p.Name, p.Labels["spark-app-selector"] = "broken", fmt.Sprint("etl-", i), fmt.Sprint("spark-", i)
		if _, err := s.CoreV1().Pods(p.Namespace).Create(t.Context(), p, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		s.see(t, p)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	s.finish(ctx)
	if s.driver(t).Annotations[annotations.State] == "" {
		t.Error("the death where writes succeed is not written")
	}
}

package job

import (
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
)

// A pod that another one of its name replaced is gone, although no watch said so.
func TestHandler(t *testing.T) {
	var calls []string
	h := Handler(
		func(p *corev1.Pod) { calls = append(calls, "there "+string(p.UID)) },
		func(p *corev1.Pod, unknown bool) { calls = append(calls, fmt.Sprint("gone ", p.UID, " ", unknown)) },
	)
	pod := func(uid types.UID) *corev1.Pod { return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: uid}} }
	h.OnAdd(pod("a"), true)
	h.OnUpdate(pod("a"), pod("a"))
	h.OnUpdate(pod("a"), pod("b"))
	h.OnDelete(pod("b"))
	h.OnDelete(toolscache.DeletedFinalStateUnknown{Obj: pod("c")})
	if want := []string{"there a", "there a", "gone a true", "there b", "gone b false", "gone c true"}; !slices.Equal(calls, want) {
		t.Errorf("%q, want %q", calls, want)
	}
}

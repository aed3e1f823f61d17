package recorder

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	kubetesting "k8s.io/client-go/testing"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/internal/eventually"
)

// running is a recorder of a cluster with so many namespaces that opted in, each
// with a driver that died, and one namespace that did not opt in.
func running(t *testing.T, optedIn int, c Config) *site {
	t.Helper()
	client := fake.NewClientset()
	for i := range optedIn + 1 {
		name := fmt.Sprint("n-", i)
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{annotations.Inject: "enabled"}}}
		if i == optedIn {
			namespace.Labels = nil
		}
		p := dead(t, "OOMKilled")
		p.Namespace, p.UID = name, types.UID(name)
		for _, err := range []error{client.Tracker().Add(namespace), client.Tracker().Add(p)} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	c.Client, c.Log = client, slog.New(slog.DiscardHandler)
	r, err := newRecorder(c, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	r.now = func() time.Time { return now }
	r.optOutWait = 100 * time.Millisecond
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- r.run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return &site{r, client}
}

func (s *site) recorded(t *testing.T, namespace string) bool {
	t.Helper()
	p, err := s.CoreV1().Pods(namespace).Get(t.Context(), "etl", metav1.GetOptions{})
	return err == nil && p.Annotations[annotations.State] != ""
}

// watches that are there, by namespace.
func (s *site) watched() map[string]bool {
	s.pods.mutex.Lock()
	defer s.pods.mutex.Unlock()
	all := map[string]bool{}
	for namespace := range s.pods.of {
		all[namespace] = true
	}
	return all
}

// listed are the namespaces whose pods the API server was asked for.
func (s *site) askedFor() map[string]bool {
	all := map[string]bool{}
	for _, a := range s.Actions() {
		if a.GetResource().Resource == "pods" && (a.GetVerb() == "list" || a.GetVerb() == "watch") {
			all[a.GetNamespace()] = true
		}
	}
	return all
}

// Only the pods of namespaces that opted in are asked for; they are followed as
// they come and go.
func TestNamespacesAreFollowed(t *testing.T) {
	s := running(t, 2, Config{})
	eventually.True(t, "both that opted in", func() bool { return s.recorded(t, "n-0") && s.recorded(t, "n-1") && s.ready.Load() })
	if asked := s.askedFor(); len(asked) != 2 || s.recorded(t, "n-2") {
		t.Errorf("the pods of %v are asked for", asked)
	}
	change := func(name, mode string) {
		_, err := s.CoreV1().Namespaces().Update(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{annotations.Inject: mode}}}, metav1.UpdateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	change("n-2", "enabled")
	eventually.True(t, "the third opts in", func() bool { return s.recorded(t, "n-2") })
	if err := s.CoreV1().Namespaces().Delete(t.Context(), "n-0", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually.True(t, "the first is gone", func() bool { return !s.watched()["n-0"] })
	if watched := s.watched(); len(watched) != 2 || s.recordsIn("n-0") {
		t.Errorf("watched are %v", watched)
	}
}

// Where many opt in, one watch sees the pods of all, and no death is missed.
func TestManyNamespacesAreOneWatch(t *testing.T) {
	s := running(t, maxWatches+3, Config{})
	eventually.True(t, "one watch", func() bool { return len(s.watched()) == 1 && s.watched()[metav1.NamespaceAll] })
	for i := range maxWatches + 3 {
		eventually.True(t, fmt.Sprint("death ", i), func() bool { return s.recorded(t, fmt.Sprint("n-", i)) })
	}
	if s.recorded(t, fmt.Sprint("n-", maxWatches+3)) {
		t.Error("recorded where nobody opted in")
	}
}

// A namespace that cannot be listed, and opts out, keeps the recorder from being ready
// no longer than that.
func TestReadyWithoutWhatOptedOut(t *testing.T) {
	s := running(t, 2, Config{})
	s.PrependReactor("list", "pods", func(a kubetesting.Action) (bool, runtime.Object, error) {
		return a.GetNamespace() == "n-1", nil, forbidden
	})
	eventually.True(t, "the other", func() bool { return s.recorded(t, "n-0") })
	if err := s.CoreV1().Namespaces().Delete(t.Context(), "n-1", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually.True(t, "ready", s.ready.Load)
}

// A label that is back soon costs nothing: the watch goes on, and what died meanwhile
// is recorded.
func TestOptsOutForAMoment(t *testing.T) {
	s := running(t, 1, Config{})
	s.optOutWait = time.Hour
	eventually.True(t, "ready", s.ready.Load)
	w := s.pods.at("n-0")
	namespaces := s.CoreV1().Namespaces()
	if err := namespaces.Delete(t.Context(), "n-0", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually.True(t, "it opts out", func() bool { return !s.recordsIn("n-0") })
	back := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "n-0", Labels: map[string]string{annotations.Inject: "enabled"}}}
	if _, err := namespaces.Create(t.Context(), back, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually.True(t, "it opts in", func() bool { return s.recordsIn("n-0") })
	if s.pods.at("n-0") != w {
		t.Error("its watch began anew")
	}
}

// Confined to some namespaces, it asks for nothing elsewhere, and for no list of
// namespaces. One where that is refused holds up no other.
func TestConfined(t *testing.T) {
	s := running(t, 0, Config{Namespaces: []string{"n-0", "closed"}})
	s.PrependReactor("list", "pods", func(a kubetesting.Action) (bool, runtime.Object, error) {
		return a.GetNamespace() == "closed", nil, forbidden
	})
	eventually.True(t, "the one that it may see", func() bool { return s.recorded(t, "n-0") && s.ready.Load() })
	for _, a := range s.Actions() {
		if a.GetResource().Resource == "namespaces" && a.GetVerb() != "get" || a.GetResource().Resource == "pods" && a.GetNamespace() == metav1.NamespaceAll {
			t.Errorf("%s %s in %q", a.GetVerb(), a.GetResource().Resource, a.GetNamespace())
		}
	}
}

// Before the pods of a namespace are listed nothing is said of a death there: its
// driver may be among them.
func TestNothingIsWrittenBeforeTheList(t *testing.T) {
	s := recording(t, dead(t, "OOMKilled"))
	s.pods.at("spark").begun.Store(true) // and not listed
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	s.finish(ctx)
	if s.listed("spark") || s.recorded(t, "spark") {
		t.Error("it is written")
	}
}

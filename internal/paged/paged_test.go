package paged

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// server answers lists of pods in pages. Each pod has an annotation of a given size.
type server struct {
	sizes []int
	pages []int // objects of those that were asked for
	asked []string
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	limit, _ := strconv.Atoi(query.Get("limit"))
	from, _ := strconv.Atoi(query.Get("continue"))
	s.pages, s.asked = append(s.pages, limit), append(s.asked, query.Get("resourceVersion"))
	to := min(len(s.sizes), from+limit)
	next := ""
	if to < len(s.sizes) {
		next = strconv.Itoa(to)
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"7","continue":%q},"items":[`, next)
	for i, size := range s.sizes[from:to] {
		if i > 0 {
			fmt.Fprint(w, ",")
		}
		fmt.Fprintf(w, `{"metadata":{"name":"p-%d","annotations":{"a":%q}}}`, from+i, strings.Repeat("x", size))
	}
	fmt.Fprint(w, "]}")
}

func pods(t *testing.T, s *server) *cache.ListWatch {
	t.Helper()
	served := httptest.NewServer(s)
	t.Cleanup(served.Close)
	client := kubernetes.NewForConfigOrDie(Bound(&rest.Config{Host: served.URL, QPS: -1}))
	return ListWatch(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			return client.CoreV1().Pods("").List(ctx, o)
		},
	}, name)
}

// name returns the only field that is kept of a pod.
func name(object any) (any, error) {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: object.(*corev1.Pod).Name}}, nil
}

// Whatever the sizes, each object is listed once, no page is too large, and ordinary
// objects come in few pages.
func TestPages(t *testing.T) {
	same := func(n, size int) []int { return slices.Repeat([]int{size}, n) }
	for what, test := range map[string]struct {
		sizes []int
		pages int // at most
	}{
		"none":                   {nil, 1},
		"ordinary":               {same(2000, 5000), 8},
		"all large":              {same(16, 1_450_000), 50},
		"large behind ordinary":  {append(same(1000, 5000), same(8, 1_450_000)...), 60},
		"ordinary behind large":  {append(same(8, 1_450_000), same(1000, 5000)...), 60},
		"one as large as can be": {same(1, 3_000_000), 5},
	} {
		t.Run(what, func(t *testing.T) {
			s := &server{sizes: test.sizes}
			list, err := pods(t, s).ListWithContext(t.Context(), metav1.ListOptions{ResourceVersion: "3", Limit: 500})
			if err != nil {
				t.Fatal(err)
			}
			all, err := extract(list)
			if err != nil || len(all) != len(test.sizes) || len(s.pages) > test.pages {
				t.Fatalf("%d of %d pods in pages of %v, %v", len(all), len(test.sizes), s.pages, err)
			}
			for i, p := range all {
				if p.Name != fmt.Sprint("p-", i) || p.Annotations != nil {
					t.Fatalf("pod %d is %v", i, p)
				}
			}
			if slices.ContainsFunc(s.asked, func(version string) bool { return version != "" }) {
				t.Errorf("asked for versions %q: what comes out of the API server's cache may have no pages", s.asked)
			}
		})
	}
}

func extract(list runtime.Object) (all []*corev1.Pod, err error) {
	_, err = Each(context.Background(), metav1.ListOptions{}, func(context.Context, metav1.ListOptions) (runtime.Object, error) { return list, nil }, func(o runtime.Object) error {
		all = append(all, o.(*corev1.Pod))
		return nil
	})
	return all, err
}

// Of a watch only the fields that are read are kept. Bookmarks stay as they are.
// Stopping the watch stops its source.
func TestWatch(t *testing.T) {
	from := watch.NewFake()
	w, err := ListWatch(&cache.ListWatch{WatchFuncWithContext: func(context.Context, metav1.ListOptions) (watch.Interface, error) { return from, nil }}, name).
		WatchWithContext(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []watch.EventType{watch.Added, watch.Modified, watch.Deleted, watch.Bookmark} {
		go from.Action(kind, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Annotations: map[string]string{"a": "x"}}})
		event := <-w.ResultChan()
		if p := event.Object.(*corev1.Pod); event.Type != kind || p.Name != "p" || (p.Annotations != nil) != (kind == watch.Bookmark) {
			t.Errorf("%s: %v", event.Type, p.ObjectMeta)
		}
	}
	w.Stop()
	if _, ok := <-w.ResultChan(); ok || !from.IsStopped() {
		t.Error("it goes on")
	}
}

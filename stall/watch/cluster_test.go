package watch

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/spark"
)

// A policy may refuse a mark with the same status as a patch of a pod that has
// been replaced; only of that there is nobody left to mark.
func TestMarkRefused(t *testing.T) {
	for name, c := range map[string]struct {
		details *metav1.StatusDetails
		refused bool
	}{
		"by a policy":         {nil, true},
		"of another pod":      {&metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: metav1.CauseTypeFieldValueInvalid, Field: "metadata.uid"}}}, false},
		"of the annotations":  {&metav1.StatusDetails{Causes: []metav1.StatusCause{{Field: "metadata.annotations"}}}, true},
		"with further fields": {&metav1.StatusDetails{Causes: []metav1.StatusCause{{Field: "metadata.name"}, {Field: "metadata.uid"}}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				switch {
				case r.URL.Path == "/api": // what there is
					_ = json.NewEncoder(w).Encode(metav1.APIVersions{TypeMeta: metav1.TypeMeta{Kind: "APIVersions"}, Versions: []string{"v1"}})
					return
				case r.URL.Path == "/apis":
					_ = json.NewEncoder(w).Encode(metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}})
					return
				case r.URL.Path == "/api/v1":
					_ = json.NewEncoder(w).Encode(metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: "v1",
						APIResources: []metav1.APIResource{{Name: "pods", Namespaced: true, Kind: "Pod"}, {Name: "pods/status", Namespaced: true, Kind: "Pod"}}})
					return
				case r.Method != http.MethodPatch:
					http.NotFound(w, r)
					return
				}
				w.WriteHeader(http.StatusUnprocessableEntity)
				_ = json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
					Status: metav1.StatusFailure, Code: http.StatusUnprocessableEntity, Reason: metav1.StatusReasonInvalid, Details: c.details})
			}))
			defer server.Close()
			api, err := newAPIServer(Config{API: &rest.Config{Host: server.URL}, CallsPerSecond: 100, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			var k key
			k.Namespace, k.Name, k.UID = "spark", "d", "u"
			if err := api.WriteMark(t.Context(), k, &annotations.StallMark{}); (err != nil) != c.refused {
				t.Error(err)
			}
		})
	}
}

// Of executors only a row each is asked for, whatever their owners write on them.
func TestExecutorsAreCounted(t *testing.T) {
	answer, kind := `"rows":[{"cells":["exec-1"]},{"cells":["exec-2"]}]`, "Table"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if r.URL.Path != "/api/v1/namespaces/spark/pods" || q.Get("includeObject") != "None" || !strings.Contains(r.Header.Get("Accept"), "as=Table") ||
			!strings.Contains(q.Get("labelSelector"), "spark-role=executor") || q.Get("fieldSelector") != "status.phase=Running" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"kind":%q,"apiVersion":"meta.k8s.io/v1",%s}`, kind, answer)
	}))
	defer server.Close()
	api, err := newAPIServer(Config{API: &rest.Config{Host: server.URL}, CallsPerSecond: 100, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	of, err := spark.PodOf(driverPod("d"))
	if err != nil {
		t.Fatal(err)
	}
	if n, _ := api.Usage(t.Context(), of); n == nil || *n != 2 {
		t.Errorf("counted %v", n)
	}
	answer, kind = `"items":[]`, "PodList" // of a server that knows no tables
	if n, _ := api.Usage(t.Context(), of); n != nil {
		t.Errorf("counted %d", *n)
	}
}

// The driver's last line is found before a thread dump, for which the liveness check
// asked. A log that cannot be read so far tells as much as it did.
func TestTailBeforeADump(t *testing.T) {
	text, err := os.ReadFile("../testdata/dumps/g1.txt")
	if err != nil {
		t.Fatal(err)
	}
	words := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	dump := words.Add(time.Hour)
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	for i, at := 0, words; i < len(lines); i, at = i+1, dump {
		lines[i] = at.Format(time.RFC3339) + " " + lines[i]
	}
	var asked []string
	tooLong := false
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		last := r.URL.Query().Get("tailLines")
		n, err := strconv.Atoi(last)
		if asked = append(asked, last); err != nil || r.URL.Path != "/api/v1/namespaces/spark/pods/d/log" || tooLong && n > 50 {
			http.Error(w, "too long", http.StatusInternalServerError)
			return
		}
		fmt.Fprintln(w, strings.Join(lines[max(len(lines)-n, 0):], "\n"))
	}))
	defer server.Close()
	api, err := newAPIServer(Config{API: &rest.Config{Host: server.URL}, CallsPerSecond: 100, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	of, err := spark.PodOf(driverPod("d"))
	if err != nil {
		t.Fatal(err)
	}
	look := func(want time.Time, calls int) {
		t.Helper()
		asked = nil
		if tail, err := api.Tail(t.Context(), of, 1); err != nil || !tail.Last.Equal(want) || len(asked) != calls {
			t.Errorf("%+v, %v, asked for %v", tail, err, asked)
		}
	}
	look(words, 2)
	tooLong = true
	look(dump, 2)
	lines = append(lines, dump.Format(time.RFC3339)+" INFO x")
	look(dump, 1)
}

// Of a log that is too long the newest bytes are kept.
func TestNewest(t *testing.T) {
	for _, n := range []int{0, 1, maxTail - 1, maxTail, maxTail + 1, 5*maxTail + 7} {
		all := make([]byte, n)
		for i := range all {
			all[i] = byte(i % 251)
		}
		got, err := newest(bytes.NewReader(all))
		if want := string(all[max(n-maxTail, 0):]); err != nil || got != want {
			t.Errorf("%d bytes: %d are kept, %v", n, len(got), err)
		}
	}
}

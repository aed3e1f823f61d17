package webhook

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/go-json-experiment/json"
	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spark-vitals/spark-vitals/internal/captured"
	"github.com/spark-vitals/spark-vitals/policy"
	"github.com/spark-vitals/spark-vitals/spark"
)

// FuzzReview: whatever the bytes, the answer is a failed call or "allowed", never
// a panic and never a refusal (but of a driver, where that is asked for), and its
// patch applies to the object under review.
func FuzzReview(f *testing.F) {
	for _, review := range captured.Reviews() {
		f.Add(review.JSON)
		f.Add(review.JSON[:len(review.JSON)/2])
	}
	f.Add([]byte(emptyReview))
	for role, container := range map[spark.Role]string{spark.Driver: "spark-kubernetes-driver", spark.Executor: "spark-kubernetes-executor"} {
		f.Add(reviewOf(fmt.Sprintf(`{"metadata":{"labels":{"spark-role":%q},"annotations":{"spark-vitals.io/liveness":"maybe"}},"spec":{"containers":[{"name":%q}]}}`, role, container)))
	}
	var failures bytes.Buffer
	log := slog.New(slog.NewTextHandler(&failures, &slog.HandlerOptions{Level: slog.LevelError}))
	w := &server{Config: Config{Log: log}}
	warns := w.reviews(&Handler{Policy: policy.Default(), Metrics: NewMetrics(prometheus.NewRegistry()), Log: log})
	denies := w.reviews(&Handler{Policy: policy.Default(), Metrics: NewMetrics(prometheus.NewRegistry()), Log: log, Deny: true})
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, site := range []struct {
			http.Handler
			path string
			deny bool
		}{{warns, "/mutate", false}, {warns, "/audit", false}, {warns, "/validate", false}, {denies, "/mutate", false}, {denies, "/validate", true}} {
			path := site.path
			request := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body))
			request.Header.Set("Content-Type", "application/json")
			answer := httptest.NewRecorder()
			failures.Reset()
			site.ServeHTTP(answer, request)
			if strings.Contains(failures.String(), "panic") {
				t.Errorf("%s: %s", path, &failures)
			}
			switch {
			case answer.Code == http.StatusOK:
				checkAnswer(t, path, site.deny, body, answer.Body.Bytes())
			case answer.Code < 400 || answer.Code >= 500 || strings.Contains(answer.Body.String(), `"allowed"`):
				t.Errorf("%s answers %d: %s", path, answer.Code, answer.Body)
			}
		}
	})
}

func checkAnswer(t *testing.T, path string, deny bool, sent, received []byte) {
	var review, answer admissionv1.AdmissionReview
	if err := json.Unmarshal(sent, &review); err != nil {
		t.Fatalf("%s answered what it cannot have read: %v", path, err)
	}
	if err := json.Unmarshal(received, &answer); err != nil {
		t.Fatal(err)
	}
	r := answer.Response
	if mayRefuse := deny && isDriver(review.Request.Object.Raw); r == nil || r.UID != review.Request.UID || !r.Allowed && !mayRefuse {
		t.Fatalf("%s answers %s", path, received)
	}
	if r.Patch == nil {
		return
	}
	patch, err := jsonpatch.DecodePatch(r.Patch)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := patch.Apply(review.Request.Object.Raw); err != nil || path == "/validate" || *r.PatchType != admissionv1.PatchTypeJSONPatch {
		t.Errorf("%s: %s: %v", path, r.Patch, err)
	}
}

func isDriver(object []byte) bool {
	var pod metav1.PartialObjectMetadata
	return json.Unmarshal(object, &pod) == nil && pod.Labels[spark.RoleLabel] == string(spark.Driver)
}

package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/internal/captured"
	"github.com/spark-vitals/spark-vitals/internal/golden"
	"github.com/spark-vitals/spark-vitals/policy"
	"github.com/spark-vitals/spark-vitals/spark"
)

// A site is a webhook on loopback, without TLS, and its metrics and log.
type site struct {
	*httptest.Server
	registry *prometheus.Registry
	metrics  *Metrics
	log      *bytes.Buffer
}

func serve(t *testing.T, p *policy.Policy, deny bool) *site {
	t.Helper()
	s := &site{registry: prometheus.NewPedanticRegistry(), log: &bytes.Buffer{}}
	s.metrics = NewMetrics(s.registry)
	log := slog.New(slog.NewJSONHandler(s.log, nil))
	w := &server{Config: Config{Log: log}}
	w.ready.Store(true)
	handler := w.reviews(&Handler{Policy: p, Metrics: s.metrics, Log: log, Deny: deny, Remedies: plans{}})
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler.ServeHTTP(struct{ http.ResponseWriter }{w}, r) // without deadlines: the machine may pause
	}))
	t.Cleanup(s.Close)
	return s
}

// plans are the plans of applications, by the driver's UID.
type plans map[types.UID]*annotations.RemedyPlan

func (plans) Unknown() string { return "" }

func (p plans) Of(executor spark.Pod, _ string) *annotations.RemedyPlan {
	owner, _ := executor.Driver()
	return p[owner.UID]
}

func (plans) MemoryOf(spark.Pod, string) (*annotations.RemedyMemory, string) { return nil, "" }

func (plans) Gave(spark.Pod, string) {}

// post sends a review of the object's creation and returns the answer.
func (s *site) post(t *testing.T, path, kind string, object []byte) *admissionv1.AdmissionResponse {
	t.Helper()
	return s.send(t, path, creation(kind, object))
}

func creation(kind string, object []byte) *admissionv1.AdmissionRequest {
	return &admissionv1.AdmissionRequest{
		UID:       "u-1",
		Operation: admissionv1.Create,
		Namespace: "spark",
		Name:      "golden",
		Resource:  metav1.GroupVersionResource{Version: "v1", Resource: strings.ToLower(kind) + "s"},
		Object:    runtime.RawExtension{Raw: object},
	}
}

func (s *site) send(t *testing.T, path string, request *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	t.Helper()
	body, err := json.Marshal(admissionv1.AdmissionReview{TypeMeta: reviewType, Request: request})
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.Post(s.URL+path, "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var answer admissionv1.AdmissionReview
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	if answer.TypeMeta != reviewType || answer.Response.UID != "u-1" {
		t.Fatalf("the answer is no answer: %+v", answer)
	}
	return answer.Response
}

// The goldens of package patches come out of the webhook as they do of the
// library, and the warnings reach the user.
func TestGoldensThroughHTTP(t *testing.T) {
	for _, c := range golden.Cases(t, "../patches/testdata") {
		t.Run(c.Name, func(t *testing.T) {
			s := serve(t, c.Policy, false)
			path := map[policy.Mode]string{policy.Enabled: "/mutate", policy.Audit: "/audit"}[c.Mode]
			answer := s.post(t, path, c.Kind, c.JSON)
			if !answer.Allowed {
				t.Error("refused")
			}
			c.CheckDiff(t, patched(t, c.JSON, answer))
			if told := strings.Count(c.Want(), "\nwarning: "); min(told, maxAnswerWarnings+1) != len(answer.Warnings) {
				t.Errorf("%d warnings, want %d: %q", len(answer.Warnings), told, answer.Warnings)
			}
		})
	}
}

// What is no admission review is a failed call, and never a refusal. It is
// counted, and the connection of who sends such a thing is not kept.
func TestEnvelopes(t *testing.T) {
	review := `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u"}}`
	tests := map[string]struct {
		method, path, contentType, encoding, body string
		status                                    int
	}{
		"a review of nothing": {"POST", "/mutate", "application/json", "", review, 200},
		"GET":                 {"GET", "/mutate", "application/json", "", "", 405},
		"another path":        {"POST", "/", "application/json", "", review, 404},
		"content type":        {"POST", "/mutate", "application/yaml", "", review, 415},
		"compressed":          {"POST", "/mutate", "application/json", "gzip", review, 415},
		"too large":           {"POST", "/mutate", "application/json", "", `{"apiVersion":"` + strings.Repeat("x", maxReviewBytes) + `"}`, 413},
		"truncated":           {"POST", "/mutate", "application/json", "", review[:40], 400},
		"empty":               {"POST", "/mutate", "application/json", "", "", 400},
		"another version":     {"POST", "/mutate", "application/json", "", strings.Replace(review, "/v1", "/v1beta1", 1), 400},
		"another kind":        {"POST", "/mutate", "application/json", "", `{"apiVersion":"v1","kind":"Pod"}`, 400},
		"no uid, and large":   {"POST", "/mutate", "application/json", "", `{"a":[0` + strings.Repeat(",0", maxElements) + `]}`, 400},
		"no request":          {"POST", "/mutate", "application/json", "", `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}`, 400},
		"no uid":              {"POST", "/mutate", "application/json", "", strings.Replace(review, `"uid":"u"`, ``, 1), 400},
		"a name twice":        {"POST", "/mutate", "application/json", "", strings.Replace(review, `"uid":"u"`, `"uid":"u","uid":"v"`, 1), 400},
		"nested too deep":     {"POST", "/mutate", "application/json", "", strings.Replace(review, `"u"`, strings.Repeat("[", 1<<20), 1), 400},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := serve(t, policy.Default(), true)
			request, err := http.NewRequest(test.method, s.URL+test.path, strings.NewReader(test.body))
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Content-Type", test.contentType)
			if test.encoding != "" {
				request.Header.Set("Content-Encoding", test.encoding)
			}
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			answer, _ := io.ReadAll(response.Body)
			if response.StatusCode != test.status || response.Close != (test.status != 200) || strings.Contains(string(answer), `"allowed":false`) {
				t.Errorf("%s, closes: %v: %s", response.Status, response.Close, answer)
			}
			if n := counted(t, s.registry, test.status); n != 1 {
				t.Errorf("counted %d times", n)
			}
		})
	}
}

// Whatever fails in us, the object is admitted as it is, and it is counted.
func TestFailuresAdmit(t *testing.T) {
	s := serve(t, nil, true) // no policy: every use of it panics
	pod := []byte(`{"kind":"Pod","metadata":{"labels":{"spark-role":"driver"}},"spec":{"containers":[{"name":"spark-kubernetes-driver","env":[{"name":"SECRET","value":"hunter2"}]}]}}`)
	for outcome, object := range map[Outcome][]byte{
		Panicked: pod,
		Failed:   []byte(`{"kind":"Pod","spec":"none"}`),
	} {
		for _, path := range []string{"/mutate", "/audit", "/validate"} {
			answer := s.post(t, path, "Pod", object)
			if !answer.Allowed || answer.Patch != nil || len(answer.Warnings) != 1 {
				t.Errorf("%s of %s: %+v", outcome, path, answer)
			}
			counted := testutil.ToFloat64(s.metrics.requests.WithLabelValues(path[1:], "pods", "", "", string(outcome)))
			if counted != 1 {
				t.Errorf("%s of %s is counted %v times", outcome, path, counted)
			}
		}
	}
	if log := s.log.String(); strings.Contains(log, "hunter2") || !strings.Contains(log, `"name":"golden"`) {
		t.Errorf("the log tells a secret, or not the name: %s", log)
	}
}

// /validate tells what /mutate tells, and with Deny refuses drivers for it, and
// never an executor. It judges what the user wrote, not what we put there.
func TestValidate(t *testing.T) {
	for _, c := range golden.Cases(t, "../patches/testdata") {
		if c.Kind != "Pod" || c.Mode != policy.Enabled {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			injected := patched(t, c.JSON, serve(t, c.Policy, false).post(t, "/mutate", c.Kind, c.JSON))
			s := serve(t, c.Policy, true)
			isUsers := strings.Contains(c.Want(), "\nwarning: setting-ignored") || strings.Contains(c.Want(), "\nwarning: harmful-probe")
			isDriver := bytes.Contains(c.JSON, []byte(`"spark-role":"driver"`))
			for when, object := range map[string][]byte{"as it was made": c.JSON, "as it was injected": injected} {
				answer := s.post(t, "/validate", c.Kind, object)
				if answer.Patch != nil {
					t.Errorf("%s: a validating webhook has patched", when)
				}
				if refused := !answer.Allowed; refused != (isUsers && isDriver) {
					t.Errorf("%s: refused is %v: %v", when, refused, answer.Result)
				} else if refused && !strings.Contains(answer.Result.Message, "spark-vitals.io") && !strings.Contains(answer.Result.Message, "spec.containers") {
					t.Errorf("%s: the refusal names no field: %s", when, answer.Result.Message)
				}
				if answer := serve(t, c.Policy, false).post(t, "/validate", c.Kind, object); !answer.Allowed {
					t.Errorf("%s: refused without --validation=deny", when)
				}
			}
		})
	}
}

func TestOtherRequestsAreLeftAlone(t *testing.T) {
	s := serve(t, policy.Default(), true)
	driver := captured.Named("spark-3.5.9/driver").Object()
	for name, tweak := range map[string]func(*admissionv1.AdmissionRequest){
		"a ConfigMap":       func(r *admissionv1.AdmissionRequest) { r.Resource.Resource = "configmaps" },
		"another API group": func(r *admissionv1.AdmissionRequest) { r.Resource.Group = "example.com" },
		"an update":         func(r *admissionv1.AdmissionRequest) { r.Operation = admissionv1.Update },
		"a deletion":        func(r *admissionv1.AdmissionRequest) { r.Operation = admissionv1.Delete },
		"a subresource":     func(r *admissionv1.AdmissionRequest) { r.SubResource = "status" },
	} {
		request := creation("Pod", driver)
		tweak(request)
		for _, path := range []string{"/mutate", "/audit", "/validate"} {
			if answer := s.send(t, path, request); !answer.Allowed || answer.Patch != nil || answer.Warnings != nil {
				t.Errorf("%s of %s: %+v", path, name, answer)
			}
		}
	}
}

// A pod that opts out is answered for by its metadata alone: as it would be else,
// and only where it is Spark's and says exactly that.
func TestOptedOut(t *testing.T) {
	for object, want := range map[string]bool{
		`{"metadata":{"annotations":{"spark-vitals.io/inject":"disabled","spark-vitals.io/state":"copied"},"labels":{"spark-role":"driver"}},"spec":0}`: true,
		`{"metadata":{"annotations":{"spark-vitals.io/inject":"audit"},"labels":{"spark-role":"driver"}}}`:                                              false,
		`{"metadata":{"annotations":{"spark-vitals.io/inject":"disabled"},"labels":{"spark-role":"spy"}}}`:                                              false,
		`{"spec":{"metadata":{"annotations":{"spark-vitals.io/inject":"disabled"},"labels":{"spark-role":"driver"}}}}`:                                  false,
		`"spark-vitals.io/inject"`: false,
	} {
		v, ok := optedOut([]byte(object))
		if ok != want || ok && (v.outcome != OptedOut || v.role != "driver" || len(v.result.Operations) != 1) {
			t.Errorf("%s: %v, %+v", object, ok, v)
		}
	}
}

// What is counted and logged of a request; nothing of the user's but names.
func TestWhatIsTold(t *testing.T) {
	const secret = "hunter2"
	driver := func(extra string) []byte {
		return fmt.Appendf(nil, `{"kind":"Pod","metadata":{"labels":{"spark-role":"driver"}%s},"spec":{"containers":[{"name":"spark-kubernetes-driver","env":[{"name":"A","value":"`+secret+`"}],"ports":[{"name":"spark-ui","containerPort":4040},{"name":"driver-rpc-port","containerPort":7078}]}]}}`, extra)
	}
	tests := []struct {
		path, kind string
		object     []byte
		labels     []string // path, resource, role, rule, outcome
		warned     policy.WarningKind
	}{
		{"/mutate", "Pod", driver(""), []string{"mutate", "pods", "driver", "default/driver-that-logs", "patched"}, ""},
		{"/audit", "Pod", driver(""), []string{"audit", "pods", "driver", "default/driver-that-logs", "audited"}, ""},
		{"/mutate", "Pod", driver(`,"annotations":{"spark-vitals.io/inject":"disabled"}`), []string{"mutate", "pods", "driver", "", "disabled"}, ""},
		{"/mutate", "Pod", driver(`,"annotations":{"spark-vitals.io/rule":"` + secret + `"}`), []string{"mutate", "pods", "driver", "default/driver-that-logs", "patched"}, policy.SettingIgnored},
		{"/validate", "Pod", driver(`,"annotations":{"spark-vitals.io/rule":"` + secret + `"}`), []string{"validate", "pods", "driver", "default/driver-that-logs", "denied"}, policy.SettingIgnored},
		{"/validate", "Pod", driver(""), []string{"validate", "pods", "driver", "default/driver-that-logs", "unchanged"}, ""},
		{"/mutate", "Pod", []byte(`{"metadata":{"labels":{"spark-role":"driver"}}}`), []string{"mutate", "pods", "", "", "not_spark"}, ""},
		{"/mutate", "Service", captured.Named("spark-3.5.9/driver-service").Object(), []string{"mutate", "services", "driver", "default/driver-that-logs", "patched"}, ""},
		{"/mutate", "Service", []byte(`{}`), []string{"mutate", "services", "", "", "not_spark"}, ""},
		{"/mutate", "Node", []byte(`{}`), []string{"mutate", "", "", "", "ignored"}, ""},
	}
	for _, test := range tests {
		s := serve(t, policy.Default(), true)
		s.post(t, test.path, test.kind, test.object)
		if n := testutil.ToFloat64(s.metrics.requests.WithLabelValues(test.labels...)); n != 1 {
			t.Errorf("%q is counted %v times", test.labels, n)
		}
		if test.warned != "" {
			if n := testutil.ToFloat64(s.metrics.warnings.WithLabelValues(test.labels[0], string(test.warned))); n != 1 {
				t.Errorf("%q: %s is counted %v times", test.labels, test.warned, n)
			}
		}
		log := s.log.String()
		if strings.Contains(log, secret) || !strings.Contains(log, `"name":"golden"`) || !strings.Contains(log, test.labels[4]) {
			t.Errorf("%q is logged as %s", test.labels, log)
		}
	}
}

// What is logged of an object that cannot be decoded, has no name yet, or has
// names as long as may be sent: enough to find it by, no value, and not much.
func TestLogOfOddObjects(t *testing.T) {
	long := strings.Repeat("x", 2<<20)
	for _, test := range []struct{ name, object, want string }{
		{"golden", `{"metadata":{"creationTimestamp":"hunter2!"}}`, "/metadata/creationTimestamp"},
		{"golden", `{"spec":{"containers":[{"name":"hunter2","name":"a"}]}}`, "/spec/containers/0/name"},
		{"", `{"metadata":{"generateName":"nightly-","labels":{"spark-role":"driver"}},"spec":{}}`, `"name":"nightly-"`},
		{"", `{"metadata":{"generateName":"nightly-"},"spec":{"containers":[{}` + strings.Repeat(",{}", maxElements) + `]}}`, `"name":"nightly-"`},
		{"golden", `{"metadata":{"labels":{"spark-role":"driver"},"annotations":{"spark-vitals.io/` + long + `":""}},"spec":{"containers":[{"name":"spark-kubernetes-driver"}]}}`, "setting-ignored"},
		{long, `{}`, "xxx"},
		{"golden", `{"` + long + `":1,"` + long + `":1}`, "xxx"},
	} {
		s := serve(t, policy.Default(), true)
		request := creation("Pod", []byte(test.object))
		request.Name = test.name
		body, err := json.Marshal(admissionv1.AdmissionReview{TypeMeta: reviewType, Request: request})
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.Post(s.URL+"/mutate", "application/json", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		answer, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if log := s.log.String(); len(log)+len(answer) > 16<<10 || !strings.Contains(log, test.want) || strings.Contains(log+string(answer), "hunter2") {
			t.Errorf("%.100s is logged as %.1000s and answered by %.1000s", test.object, log, answer)
		}
	}
}

// An answer that comes too late is counted.
func TestLostAnswers(t *testing.T) {
	s := serve(t, policy.Default(), true)
	ctx, leave := context.WithCancel(t.Context())
	leave()
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/mutate", strings.NewReader(emptyReview))
	r.Header.Set("Content-Type", "application/json")
	s.Config.Handler.ServeHTTP(httptest.NewRecorder(), r)
	if n := testutil.ToFloat64(s.metrics.lost); n != 1 {
		t.Errorf("counted %v times", n)
	}
}

// A review that would take gigabytes to decode is not decoded, and a pod in it
// is admitted as it is.
func TestTooManyElements(t *testing.T) {
	s := serve(t, policy.Default(), true)
	answer := s.post(t, "/mutate", "Pod", []byte(`{"spec":{"containers":[{}`+strings.Repeat(",{}", maxElements)+`]}}`))
	if !answer.Allowed || answer.Patch != nil || len(answer.Warnings) != 1 {
		t.Errorf("%+v", answer)
	}
	if n := testutil.ToFloat64(s.metrics.requests.WithLabelValues("mutate", "pods", "", "", string(TooLarge))); n != 1 {
		t.Errorf("counted %v times", n)
	}
	if !strings.Contains(s.log.String(), `"name":"golden"`) {
		t.Errorf("logged as %s", s.log)
	}
}

// A quantity that would take seconds to read is not read, and a pod with it is
// admitted as it is.
func TestQuantities(t *testing.T) {
	s := serve(t, policy.Default(), true)
	for quantity, read := range map[string]bool{
		`"1408Mi"`: true, `1476395008`: true, `"2E"`: true, `"1Ei"`: true, `"1e9"`: true, `"1e-99"`: true, `"1E+99"`: true,
		`"1e-100"`: false, `"1e1000"`: false, `"` + strings.Repeat("7", 100) + `"`: false,
	} {
		answer := s.post(t, "/mutate", "Pod", []byte(`{"kind":"Pod","metadata":{"labels":{"spark-role":"driver"}},"spec":{"containers":[{"name":"spark-kubernetes-driver","resources":{"limits":{"memory":`+quantity+`}}}]}}`))
		if !answer.Allowed || (answer.Patch != nil) != read {
			t.Errorf("%s: %+v", quantity, answer)
		}
	}
}

// A refusal is short, whatever the user wrote, and no more warnings are made than
// anybody wants to read.
func TestRefusalIsBounded(t *testing.T) {
	settings := make([]string, 1000)
	for i := range settings {
		settings[i] = fmt.Sprintf(`"spark-vitals.io/s%d":"x"`, i)
	}
	pod := `{"metadata":{"labels":{"spark-role":"driver"},"annotations":{` + strings.Join(settings, ",") + `}},"spec":{"containers":[{"name":"spark-kubernetes-driver"}]}}`
	s := serve(t, policy.Default(), true)
	answer := s.post(t, "/validate", "Pod", []byte(pod))
	if answer.Allowed || len(answer.Result.Message) > 8<<10 {
		t.Errorf("allowed is %v, the message has %d bytes", answer.Allowed, len(answer.Result.Message))
	}
	if n := testutil.ToFloat64(s.metrics.warnings.WithLabelValues("validate", string(policy.SettingIgnored))); n > 40 {
		t.Errorf("%v warnings", n)
	}
}

func patched(t *testing.T, object []byte, answer *admissionv1.AdmissionResponse) []byte {
	t.Helper()
	if answer.Patch == nil {
		return object
	}
	patch, err := jsonpatch.DecodePatch(answer.Patch)
	if err != nil {
		t.Fatal(err)
	}
	after, err := patch.Apply(object)
	if err != nil {
		t.Fatal(err)
	}
	return after
}

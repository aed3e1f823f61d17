package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"runtime"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/internal/captured"
	"github.com/spark-vitals/spark-vitals/patches"
	"github.com/spark-vitals/spark-vitals/policy"
	"github.com/spark-vitals/spark-vitals/spark"
	"github.com/spark-vitals/spark-vitals/webhook"
)

// contenders answer reviews of pods in different ways, all with the same envelope. The
// constant patch is what our webhook answers for the given object.
func contenders(p *policy.Policy, object []byte) map[string]admission.Handler {
	nowhere := struct{ io.Writer }{io.Discard} // lines are made, and thrown away
	ours := &webhook.Handler{Policy: p, Metrics: webhook.NewMetrics(prometheus.NewRegistry()), Log: slog.New(slog.NewJSONHandler(nowhere, nil))}
	constant := ours.Mutate(policy.Enabled).Handle(context.Background(), requestOf(object)).Patches
	return map[string]admission.Handler{
		"allow":    admission.HandlerFunc(func(context.Context, admission.Request) admission.Response { return admission.Allowed("") }),
		"constant": admission.HandlerFunc(func(context.Context, admission.Request) admission.Response { return admission.Patched("", constant...) }),
		"ours":     ours.Mutate(policy.Enabled),
		"diff":     diff(p),
	}
}

func requestOf(object []byte) (r admission.Request) {
	r.UID, r.Operation, r.Resource.Resource, r.Object.Raw = "u", admissionv1.Create, "pods", object
	return r
}

// diff does what most webhooks do: decode, change, encode, compare.
func diff(p *policy.Policy) admission.Handler {
	return admission.HandlerFunc(func(_ context.Context, r admission.Request) admission.Response {
		pod := &corev1.Pod{}
		if err := json.Unmarshal(r.Object.Raw, pod); err != nil {
			return admission.Errored(http.StatusBadRequest, err)
		}
		if sparkPod, err := spark.PodOf(pod); err == nil {
			patches.Apply(sparkPod, p.For(sparkPod, policy.Enabled))
		}
		after, err := json.Marshal(pod)
		if err != nil {
			return admission.Errored(http.StatusInternalServerError, err)
		}
		return admission.PatchResponseFromRaw(r.Object.Raw, after)
	})
}

// benchAlone measures the handlers without a network, on captured reviews.
func benchAlone(_ context.Context, d *document, a *aims) error {
	d.say("\n### The handler alone\nFrom the bytes of a captured review of Spark 3.5.9 to those of the answer. *Opted out* is the pod with `%s: disabled`, *already injected* the pod as in a second round. Median of %d rounds. *The diff* is decode, marshal, diff.", annotations.Inject, *rounds)
	d.table("answered by", "executor, µs", "allocations", "KiB", "driver, µs", "allocations", "KiB")
	var rows [][]any
	for _, name := range []string{"executor", "driver"} {
		review := captured.Named("spark-3.5.9/" + name)
		optedOut, err := optOut(review)
		if err != nil {
			return err
		}
		injected, err := inject(review)
		if err != nil {
			return err
		}
		handlers := contenders(policy.Default(), review.Object())
		runners := []*runner{
			{name: "allow-only", body: review.JSON, handler: handlers["allow"]},
			{name: "a constant patch", body: review.JSON, handler: handlers["constant"]},
			{name: "spark-vitals", body: review.JSON, handler: handlers["ours"]},
			{name: "decode, marshal, diff", body: review.JSON, handler: handlers["diff"]},
			{name: "spark-vitals, opted out", body: optedOut, handler: handlers["ours"]},
			{name: "spark-vitals, already injected", body: injected, handler: handlers["ours"]},
			{name: "allow-only, as controller-runtime serves it", body: review.JSON, served: &admission.Webhook{Handler: handlers["allow"]}},
		}
		if err := interleave(runners); err != nil {
			return err
		}
		allow, ours, diff, idle, done, usual := runners[0], runners[2], runners[3], runners[4], runners[5], runners[6]
		for i, r := range runners {
			if i == len(rows) {
				rows = append(rows, []any{r.name})
			}
			rows[i] = append(rows[i], fmt.Sprintf("%.0f", r.micros()), fmt.Sprintf("%.0f", r.allocations), fmt.Sprintf("%.0f", r.bytes/1024))
		}
		a.add(name+": time, of the diff", ours.micros()/diff.micros(), 0.45)
		a.add(name+": allocations, of the diff", ours.allocations/diff.allocations, 0.12)
		a.add(name+": opted out, of allow-only", idle.micros()/allow.micros(), 1.3)
		a.add(name+": opted out, of allow-only by controller-runtime", idle.micros()/usual.micros(), 1.3)
		a.add(name+": already injected, of allow-only", done.micros()/allow.micros(), 1.3)
		a.add(name+": already injected, of allow-only by controller-runtime", done.micros()/usual.micros(), 1.3)
	}
	for _, row := range rows {
		d.row(row...)
	}
	return nil
}

func optOut(review captured.Review) ([]byte, error) {
	var pod map[string]any
	if err := json.Unmarshal(review.Object(), &pod); err != nil {
		return nil, err
	}
	pod["metadata"].(map[string]any)["annotations"] = map[string]string{annotations.Inject: "disabled"}
	return reviewOf(review, pod)
}

func inject(review captured.Review) ([]byte, error) {
	var pod corev1.Pod
	if err := json.Unmarshal(review.Object(), &pod); err != nil {
		return nil, err
	}
	sparkPod, err := spark.PodOf(&pod)
	if err != nil {
		return nil, err
	}
	patches.Apply(sparkPod, policy.Default().For(sparkPod, policy.Enabled))
	return reviewOf(review, pod)
}

// reviewOf returns a review of another pod.
func reviewOf(review captured.Review, pod any) ([]byte, error) {
	object, err := json.Marshal(pod)
	if err != nil {
		return nil, err
	}
	request := *review.Review.Request
	request.Object.Raw = object
	review.Review.Request = &request
	return json.Marshal(review.Review)
}

// runner is a handler with the requests that it gets and the time that they took.
type runner struct {
	name    string
	body    []byte
	handler admission.Handler
	served  http.Handler // handler, as spark-vitals serves its own, where this is nil

	times              []float64 // µs a review, one a round
	allocations, bytes float64   // a review
}

func (r *runner) micros() float64 {
	slices.Sort(r.times)
	return r.times[len(r.times)/2]
}

// interleave runs the runners in turns, so that other load on the machine affects all.
func interleave(runners []*runner) error {
	const batch = 100
	for _, r := range runners {
		if r.served == nil {
			r.served = webhook.Reviews(map[string]admission.Handler{"/mutate": r.handler}, webhook.NewMetrics(prometheus.NewRegistry()), slog.New(slog.NewTextHandler(os.Stderr, nil)))
		}
	}
	for range *rounds {
		for _, r := range runners {
			if err := r.run(batch); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *runner) run(batch int) error {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	begun := cpuTime()
	for range batch {
		request, err := http.NewRequest(http.MethodPost, "/mutate", bytes.NewReader(r.body))
		if err != nil {
			return err
		}
		request.Header.Set("Content-Type", "application/json")
		answer := answer{header: http.Header{}}
		r.served.ServeHTTP(&answer, request)
		if answer.status > http.StatusOK || answer.length == 0 {
			return fmt.Errorf("%s answers %d", r.name, answer.status)
		}
	}
	r.times = append(r.times, float64((cpuTime()-begun).Nanoseconds())/1000/float64(batch))
	runtime.ReadMemStats(&after)
	r.allocations = float64(after.Mallocs-before.Mallocs) / float64(batch)
	r.bytes = float64(after.TotalAlloc-before.TotalAlloc) / float64(batch)
	return nil
}

// answer receives a response and keeps only its status.
type answer struct {
	header         http.Header
	status, length int
}

func (a *answer) Header() http.Header    { return a.header }
func (a *answer) WriteHeader(status int) { a.status = status }
func (a *answer) Write(p []byte) (int, error) {
	a.length += len(p)
	return len(p), nil
}

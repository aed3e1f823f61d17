package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/internal/captured"
	"github.com/spark-vitals/spark-vitals/policy"
	"github.com/spark-vitals/spark-vitals/remedy/watch"
	"github.com/spark-vitals/spark-vitals/spark"
	"github.com/spark-vitals/spark-vitals/webhook"
)

// benchRemedy measures what a rule's remedy costs the webhook, and how long a plan takes
// from its write on a driver to two webhooks.
func benchRemedy(ctx context.Context, d *document) error {
	return cluster.WithControlPlane(ctx, os.Stderr, func(c *cluster.ControlPlane) error { return benchRemedies(ctx, c, d) })
}

const (
	remedyDrivers = 10000
	remedyPlans   = 1000 // of them have a plan, and get it while it is measured
	remedyRate    = 50   // plans a second
)

func benchRemedies(ctx context.Context, c *cluster.ControlPlane, d *document) error {
	if err := d.heading(); err != nil {
		return err
	}
	config := rest.CopyConfig(c.Config)
	config.AcceptContentTypes, config.ContentType = kruntime.ContentTypeProtobuf, kruntime.ContentTypeProtobuf
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	if err := c.Namespace(ctx, namespace, nil); err != nil {
		return err
	}
	drivers, err := makeDrivers(ctx, cluster.Kubelet{Interface: client})
	if err != nil {
		return err
	}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	before := heapInUse()
	var all []*watch.Drivers
	var synced []time.Duration
	for range 2 {
		known, err := watch.New(c.Config, false, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
		if err != nil {
			return err
		}
		begun := time.Now()
		go known.Run(watching)
		for known.Unknown() != "" {
			time.Sleep(time.Millisecond)
		}
		synced, all = append(synced, time.Since(begun)), append(all, known)
	}
	perDriver := float64(heapInUse()-before) / 2 / remedyDrivers
	lags, err := spread(ctx, client, drivers[:remedyPlans], all)
	if err != nil {
		return err
	}
	d.say("\n%d drivers; then %d of them get a plan, %d a second. Two watches in one process take the place of two webhooks.", remedyDrivers, remedyPlans, remedyRate)
	d.table("", "measured")
	d.row("memory of a watched driver, KiB", fmt.Sprintf("%.1f", perDriver/1024))
	d.row("from the start of the watch until all drivers are known, ms", synced[0].Milliseconds())
	d.row("from the answer to the recorder's write until both know the plan, median / p99", quantiles(lags))
	wanted := &aims{}
	if err := remedyHandler(drivers[0], all[0], d, wanted); err != nil {
		return err
	}
	wanted.add("p99 until both know a plan, ms (Spark creates the next executor after 1000)", quantile(lags, .99), 500)
	wanted.write(d)
	return nil
}

func heapInUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse)
}

func makeDrivers(ctx context.Context, kubelet cluster.Kubelet) ([]*corev1.Pod, error) {
	drivers := make([]*corev1.Pod, remedyDrivers)
	making, ctx := errgroup.WithContext(ctx)
	making.SetLimit(16)
	for i := range drivers {
		making.Go(func() (err error) {
			drivers[i], err = kubelet.Driver(ctx, namespace, fmt.Sprintf("app-%d", i))
			return err
		})
	}
	return drivers, making.Wait()
}

// spread writes a plan on each driver, and returns how long it took until all watches
// knew it.
func spread(ctx context.Context, client kubernetes.Interface, drivers []*corev1.Pod, all []*watch.Drivers) (lags []time.Duration, err error) {
	tick := time.NewTicker(time.Second / remedyRate)
	defer tick.Stop()
	found, knowing := make(chan time.Duration, len(drivers)), new(errgroup.Group)
	for _, driver := range drivers {
		<-tick.C
		executor, err := cluster.ExecutorWith(driver, 4)
		if err != nil {
			return nil, err
		}
		plan := annotations.RemedyText([]annotations.RemedyPlan{{
			Application: executor.Application(), Profile: "0", Mode: annotations.Enabled, FromCores: 4, ToCores: 2, Until: time.Now().Add(time.Hour),
		}})
		body, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{annotations.Remedy: plan}}})
		if err != nil {
			return nil, err
		}
		if _, err := client.CoreV1().Pods(driver.Namespace).Patch(ctx, driver.Name, types.StrategicMergePatchType, body, metav1.PatchOptions{}, "status"); err != nil {
			return nil, err
		}
		written := time.Now()
		knowing.Go(func() error {
			for slices.ContainsFunc(all, func(d *watch.Drivers) bool { return d.Of(executor, driver.Namespace) == nil }) {
				if time.Since(written) > time.Minute {
					return fmt.Errorf("the plan of %s is not known after a minute", driver.Name)
				}
				time.Sleep(time.Millisecond)
			}
			found <- time.Since(written)
			return nil
		})
	}
	err = knowing.Wait()
	close(found)
	for lag := range found {
		lags = append(lags, lag)
	}
	return lags, err
}

// remedyHandler measures the handler with and without a remedy.
func remedyHandler(driver *corev1.Pod, known *watch.Drivers, d *document, a *aims) error {
	executor, err := cluster.ExecutorWith(driver, 4)
	if err != nil {
		return err
	}
	review := captured.Named("spark-3.5.9/executor")
	body, err := reviewOf(review, executor.Pod)
	if err != nil {
		return err
	}
	var runners []*runner
	for _, c := range []struct {
		name, remedy string
		remedies     webhook.Remedies
	}{{"no remedy", "", nil}, {"a remedy, and no plan", "remedy: {mode: enabled}", noPlans{}}, {"a remedy, and a plan among 10,000 drivers", "remedy: {mode: enabled}", known}} {
		p, err := policy.Parse([]byte("ruleSet: default\nrules:\n- name: e\n  match: {role: executor}\n  memoryAnnotations: true\n  blockManagerPort: {from: 20000, to: 29999}\n  " + c.remedy))
		if err != nil {
			return err
		}
		h := &webhook.Handler{Policy: p, Metrics: webhook.NewMetrics(prometheus.NewRegistry()), Log: slog.New(slog.DiscardHandler), Remedies: c.remedies}
		runners = append(runners, &runner{name: c.name, body: body, handler: h.Mutate(policy.Enabled)})
	}
	if err := interleave(runners); err != nil {
		return err
	}
	for _, r := range runners {
		d.row("review of an executor, "+r.name+", µs", fmt.Sprintf("%.0f", r.micros()))
	}
	a.add("review with a plan, of one without a remedy", runners[2].micros()/runners[0].micros(), 1.2)
	return nil
}

// noPlans are the plans of a cluster in which nothing died.
type noPlans struct{}

// MemoryOf implements webhook.Remedies.
func (noPlans) MemoryOf(spark.Pod, string) (*annotations.RemedyMemory, string) { return nil, "" }

// Gave implements webhook.Remedies.
func (noPlans) Gave(spark.Pod, string) {}

// Unknown implements webhook.Remedies.
func (noPlans) Unknown() string { return "" }

// Of implements webhook.Remedies.
func (noPlans) Of(spark.Pod, string) *annotations.RemedyPlan { return nil }

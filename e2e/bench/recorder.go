package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/e2e/helm"
	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
)

// recorderLoad is the load under which the recorder is measured.
type recorderLoad struct {
	Pods     int           // at the beginning, a hundredth of them drivers
	Rate     int           // of the executors' deaths, a second
	Duration time.Duration // of a round
	Rounds   int           // without a recorder, and as many with
	Replicas int           // of the recorder
}

const perDriver = 100

// benchRecorder measures how long it takes to record a death, and what that costs,
// compared with the same load without a recorder. Executors are deleted a second after
// they died, as Spark does.
func benchRecorder(ctx context.Context, d *document) error {
	return cluster.WithControlPlane(ctx, os.Stderr, func(c *cluster.ControlPlane) error { return benchRecorders(ctx, c, d) })
}

func benchRecorders(ctx context.Context, c *cluster.ControlPlane, d *document) error {
	if err := d.heading(); err != nil {
		return err
	}
	load := recorderLoad{Pods: 10000, Rate: 50, Duration: time.Minute, Rounds: 2, Replicas: 2}
	config := rest.CopyConfig(c.Config)
	config.AcceptContentTypes, config.ContentType = runtime.ContentTypeProtobuf, runtime.ContentTypeProtobuf // as kubelets do
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	b := &recorderBench{recorderLoad: load, controlPlane: c, kubelet: cluster.Kubelet{Interface: client}, apps: make([]app, load.Pods/perDriver)}
	if err := c.Namespace(ctx, namespace, nil); err != nil {
		return err
	}
	// The rounds alternate, because an API server that has run for longer needs more CPU.
	var without, with measured
	for range load.Rounds {
		if err := b.run(ctx, 0, &without); err != nil {
			return err
		}
		if err := b.run(ctx, load.Replicas, &with); err != nil {
			return err
		}
	}
	b.describe(d, &without, &with)
	wanted := &aims{}
	wanted.add("p99 from status write to record, ms", quantile(with.lags, .99), 1000)
	wanted.add("API server, CPU, of without", with.apiserver/without.apiserver, 1.40)
	for _, name := range []string{"patch pods/status", "create events"} {
		wanted.add("calls a death, "+name, with.calls[name]/float64(with.deaths), 1.1)
	}
	wanted.add("recorder, memory at most, MiB", slices.Max(with.memory), 100)
	wanted.write(d)
	return nil
}

const namespace = "bench"

type recorderBench struct {
	recorderLoad
	controlPlane *cluster.ControlPlane
	kubelet      cluster.Kubelet
	apps         []app

	mutex sync.Mutex
	died  map[string]map[int64]time.Time // by driver and executor, until it is recorded
	lags  []time.Duration
}

// measured in all rounds of a kind.
type measured struct {
	deaths       int
	writes, lags []time.Duration // of statuses, and from there to the record
	lost         int
	calls        map[string]float64 // of the API server, by the recorders
	apiserver    float64            // seconds of CPU
	recorders    []float64          // seconds of CPU
	memory       []float64          // peak, in MiB
	idle         []float64          // memory before the deaths
}

// app is a driver with its living executors.
type app struct {
	driver    *corev1.Pod
	executors []*corev1.Pod
	next      int // number of its next executor
}

// fill creates the pods that are missing, and drivers without a record.
func (b *recorderBench) fill(ctx context.Context) error {
	making, ctx := errgroup.WithContext(ctx)
	making.SetLimit(16)
	for i := range b.apps {
		making.Go(func() (err error) {
			a := &b.apps[i]
			if a.driver == nil {
				if a.driver, err = b.kubelet.Driver(ctx, namespace, fmt.Sprintf("app-%d", i)); err != nil {
					return err
				}
			}
			if err := b.forget(ctx, a.driver); err != nil {
				return err
			}
			for len(a.executors) < perDriver-1 {
				a.next++
				e, err := b.kubelet.Executor(ctx, a.driver, a.next)
				if err != nil {
					return err
				}
				a.executors = append(a.executors, e)
			}
			return nil
		})
	}
	return making.Wait()
}

// forget removes a driver's record, because only the first deaths of an application
// have an Event each.
func (b *recorderBench) forget(ctx context.Context, driver *corev1.Pod) error {
	none := map[string]any{}
	for _, key := range annotations.Death {
		none[key] = nil
	}
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": none}})
	if err != nil {
		return err
	}
	_, err = b.kubelet.CoreV1().Pods(namespace).Patch(ctx, driver.Name, types.MergePatchType, body, metav1.PatchOptions{})
	return err
}

// run runs one round of the load with so many recorders.
func (b *recorderBench) run(ctx context.Context, replicas int, m *measured) error {
	if err := b.fill(ctx); err != nil {
		return err
	}
	recorders, err := startRecorders(ctx, b.controlPlane, replicas, nil)
	if err != nil {
		return err
	}
	defer func() {
		for _, r := range recorders {
			r.Stop()
		}
	}()
	b.died, b.lags = map[string]map[int64]time.Time{}, nil
	watching, stop := context.WithCancel(ctx)
	defer stop()
	if err := b.watch(watching); err != nil {
		return err
	}
	for _, r := range recorders {
		m.idle = append(m.idle, memory(r.Pid(), "VmRSS"))
	}
	before, err := snapshotOf(ctx, b.kubelet, recorders, calls)
	if err != nil {
		return err
	}
	deaths := m.deaths
	if err := b.die(ctx, m); err != nil {
		return err
	}
	b.settle(ctx, replicas > 0)
	after, err := snapshotOf(ctx, b.kubelet, recorders, calls)
	if err != nil {
		return err
	}
	for _, r := range recorders {
		m.memory = append(m.memory, memory(r.Pid(), "VmHWM"))
	}
	m.compare(before, after, m.deaths-deaths)
	b.mutex.Lock()
	defer b.mutex.Unlock()
	m.lags = append(m.lags, b.lags...)
	for _, waiting := range b.died {
		m.lost += len(waiting)
	}
	return nil
}

// startRecorders starts recorders with the rights that the chart gives them with values.
func startRecorders(ctx context.Context, c *cluster.ControlPlane, n int, values map[string]any, flags ...string) (all []*cluster.Recorder, err error) {
	if err := c.Namespace(ctx, "spark-vitals", nil); err != nil {
		return nil, err
	}
	rights, err := helm.Rights("spark-vitals", "recorder", values)
	if err != nil {
		return nil, err
	}
	kubeconfig, err := c.Allow(ctx, rights, "")
	if err != nil {
		return nil, err
	}
	for range n {
		r, err := c.StartRecorder(ctx, os.Stderr, kubeconfig, append(flags, "--everywhere", "--namespace=spark-vitals")...)
		if err != nil {
			return all, err
		}
		all = append(all, r)
	}
	return all, nil
}

// die ends executors at the rate, spread over all drivers.
func (b *recorderBench) die(ctx context.Context, m *measured) error {
	dying, ctx := errgroup.WithContext(ctx)
	tick := time.NewTicker(time.Second / time.Duration(b.Rate))
	defer tick.Stop()
	for n := range b.Rate * int(b.Duration/time.Second) {
		select {
		case <-ctx.Done():
			return dying.Wait()
		case <-tick.C:
		}
		m.deaths++
		a := &b.apps[n%len(b.apps)]
		e, driver := a.executors[0], a.driver.Name
		a.executors = a.executors[1:]
		id, _ := spark.Pod{Pod: e, Role: spark.Executor}.ExecutorID()
		dying.Go(func() error {
			begun := time.Now()
			b.mutex.Lock()
			if b.died[driver] == nil {
				b.died[driver] = map[int64]time.Time{}
			}
			b.died[driver][id] = begun
			b.mutex.Unlock()
			e, err := b.kubelet.Die(ctx, e, "OOMKilled", 137)
			if err != nil {
				return err
			}
			b.mutex.Lock()
			m.writes = append(m.writes, time.Since(begun))
			b.mutex.Unlock()
			time.Sleep(time.Second)
			return b.kubelet.Remove(ctx, e)
		})
	}
	return dying.Wait()
}

// watch watches the drivers as a gateway does, and notes when a death is recorded.
func (b *recorderBench) watch(ctx context.Context) error {
	options := metav1.ListOptions{LabelSelector: spark.RoleLabel + "=" + string(spark.Driver)}
	list, err := b.kubelet.CoreV1().Pods(namespace).List(ctx, options)
	if err != nil {
		return err
	}
	options.ResourceVersion = list.ResourceVersion
	events, err := b.kubelet.CoreV1().Pods(namespace).Watch(ctx, options)
	if err != nil {
		return err
	}
	go func() {
		defer events.Stop()
		for event := range events.ResultChan() {
			if p, ok := event.Object.(*corev1.Pod); ok {
				b.noteRecord(p, time.Now())
			}
		}
	}()
	return nil
}

func (b *recorderBench) noteRecord(p *corev1.Pod, now time.Time) {
	record, err := oom.Read(p.Annotations)
	if err != nil {
		return
	}
	counted := record.Counted["executors"]
	b.mutex.Lock()
	defer b.mutex.Unlock()
	for id, since := range b.died[p.Name] {
		if counted.Has(id) {
			b.lags = append(b.lags, now.Sub(since))
			delete(b.died[p.Name], id)
		}
	}
}

// settle waits until all deaths are recorded, for at most half a minute.
func (b *recorderBench) settle(ctx context.Context, recorded bool) {
	for end := time.Now().Add(30 * time.Second); recorded && time.Now().Before(end) && ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
		b.mutex.Lock()
		waiting := 0
		for _, of := range b.died {
			waiting += len(of)
		}
		b.mutex.Unlock()
		if waiting == 0 {
			return
		}
	}
}

// snapshot is the state of counters.
type snapshot struct {
	calls     map[string]float64
	apiserver float64
	recorders []float64
}

// calls are calls of the recorders alone, or also of the load.
var calls = map[string]*regexp.Regexp{
	"patch pods/status": regexp.MustCompile(`(?m)^apiserver_request_total\{.*resource="pods".*subresource="status".*verb="PATCH".*\} (\S+)$`),
	"create events":     regexp.MustCompile(`(?m)^apiserver_request_total\{.*group="events.k8s.io".*resource="events".*verb="POST".*\} (\S+)$`),
	"get events":        regexp.MustCompile(`(?m)^apiserver_request_total\{.*resource="events".*verb="GET".*\} (\S+)$`),
	"get pods":          regexp.MustCompile(`(?m)^apiserver_request_total\{.*resource="pods".*subresource="",verb="GET".*\} (\S+)$`),
}

var cpu = regexp.MustCompile(`(?m)^process_cpu_seconds_total (\S+)$`)

func snapshotOf(ctx context.Context, client kubernetes.Interface, recorders []*cluster.Recorder, calls map[string]*regexp.Regexp) (s snapshot, err error) {
	raw, err := client.Discovery().RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return s, err
	}
	s.calls = map[string]float64{}
	for name, pattern := range calls {
		s.calls[name] = sum(pattern, string(raw))
	}
	s.apiserver = sum(cpu, string(raw))
	for _, r := range recorders {
		text, err := r.Metrics(ctx)
		if err != nil {
			return s, err
		}
		s.recorders = append(s.recorders, sum(cpu, text))
	}
	return s, nil
}

func sum(pattern *regexp.Regexp, text string) (total float64) {
	for _, found := range pattern.FindAllStringSubmatch(text, -1) {
		value, _ := strconv.ParseFloat(found[1], 64)
		total += value
	}
	return total
}

// compare adds what changed in a round with so many deaths.
func (m *measured) compare(before, after snapshot, deaths int) {
	if m.calls == nil {
		m.calls, m.recorders = map[string]float64{}, make([]float64, len(before.recorders))
	}
	for name := range calls {
		m.calls[name] += after.calls[name] - before.calls[name]
	}
	m.calls["patch pods/status"] -= float64(deaths) // the load's
	m.apiserver += after.apiserver - before.apiserver
	for i := range before.recorders {
		m.recorders[i] += after.recorders[i] - before.recorders[i]
	}
}

// memory returns the memory of a process in MiB, as the kernel counts it.
func memory(pid int, field string) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	return sum(regexp.MustCompile(`(?m)^`+field+`:\s+(\d+) kB$`), string(text)) / 1024
}

func (b *recorderBench) describe(d *document, without, with *measured) {
	d.say("\n%d pods watched; %d executors a second die for %s, each deleted a second later; %d rounds without a recorder and %d with, in turns.", b.Pods, b.Rate, b.Duration, b.Rounds, b.Rounds)
	row := func(what string, show func(*measured) string) { d.row(what, show(without), show(with)) }
	d.table("", "no recorder", fmt.Sprintf("%d recorders", b.Replicas))
	row("deaths", func(m *measured) string { return strconv.Itoa(m.deaths) })
	row("status write, p50 / p99", func(m *measured) string { return quantiles(m.writes) })
	row("API server, CPU", func(m *measured) string { return fmt.Sprintf("%.1f s", m.apiserver) })
	row("from status write to record, p50 / p99", func(m *measured) string { return quantiles(m.lags) })
	row("not recorded", func(m *measured) string { return strconv.Itoa(m.lost) })
	for _, name := range []string{"patch pods/status", "get pods", "create events", "get events"} {
		row("calls a death, "+name, func(m *measured) string { return fmt.Sprintf("%.2f", m.calls[name]/float64(m.deaths)) })
	}
	row("recorder, CPU", func(m *measured) string { return each(m.recorders, "%.1f s") })
	row("recorder, memory before", func(m *measured) string { return each(m.idle, "%.0f MiB") })
	row("recorder, memory at most", func(m *measured) string { return each(m.memory, "%.0f MiB") })
}

func each(values []float64, format string) string {
	var all []string
	for _, v := range values {
		all = append(all, fmt.Sprintf(format, v))
	}
	return strings.Join(all, ", ")
}

func quantiles(all []time.Duration) string {
	if len(all) == 0 {
		return ""
	}
	slices.Sort(all)
	at := func(q int) time.Duration { return all[(len(all)-1)*q/100].Round(time.Millisecond) }
	return fmt.Sprintf("%s / %s", at(50), at(99))
}

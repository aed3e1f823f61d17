package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/internal/paged"
	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
	"github.com/spark-vitals/spark-vitals/sparkjob"
)

// The load under which SparkJobs are measured: as many drivers run as end in a round, each
// of another job, which has as many runs as it keeps.
const (
	jobsKept    = 10000
	jobRate     = 25 // ends a second
	jobDuration = time.Minute
	jobEnds     = jobRate * int(jobDuration/time.Second)
	jobRounds   = 1  // without SparkJobs, and as many with
	killedEach  = 10 // of so many drivers one is killed, and the others succeed
)

// benchJobs measures what it costs to keep the runs of jobs, compared with recorders that
// only record deaths.
func benchJobs(ctx context.Context, d *document) error {
	return cluster.WithControlPlane(ctx, os.Stderr, func(c *cluster.ControlPlane) error { return benchSparkJobs(ctx, c, d) })
}

func benchSparkJobs(ctx context.Context, c *cluster.ControlPlane, d *document) error {
	if err := d.heading(); err != nil {
		return err
	}
	b, err := newJobsBench(ctx, c)
	if err != nil {
		return err
	}
	empty, err := b.memory(ctx)
	if err != nil {
		return err
	}
	perJob, err := b.fill(ctx)
	if err != nil {
		return err
	}
	if err := b.watch(ctx); err != nil {
		return err
	}
	full, err := b.memory(ctx)
	if err != nil {
		return err
	}
	var without, with jobsMeasured
	for round := range jobRounds {
		if err := b.run(ctx, fmt.Sprint("without-", round), 0, false, &without); err != nil {
			return err
		}
		if err := b.run(ctx, fmt.Sprint("with-", round), round*(jobsKept-jobEnds), true, &with); err != nil {
			return err
		}
	}
	b.describe(d, perJob, &without, &with)
	d.say("\nThe jobs take %.0f MiB of the API server's memory, because it keeps all objects of a definition decoded.", full-empty)
	wanted := &aims{}
	wanted.add("runs that are lost, late, wrong or there twice", float64(with.lost+with.twice+with.late+with.wrong), 0)
	wanted.add("p99 from the end to the written run, s", quantile(with.lags, .99)/1000, 10)
	wanted.add("writes a run, of an end", with.jobWrites()/float64(with.ends), 1.1)
	wanted.add("API server, CPU for an end, ms more than without", 1000*(with.apiserver-without.apiserver)/float64(with.ends), 20)
	wanted.add("bytes of a job in etcd, KiB", perJob, 20)
	wanted.add("recorder, memory at most, MiB", slices.Max(with.memory), 150)
	wanted.write(d)
	return nil
}

// memory returns what the API server's live objects take, in MiB.
func (b *jobsBench) memory(ctx context.Context) (mebibytes float64, err error) {
	text, err := b.kubelet.Discovery().RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	return sum(liveHeap, string(text)) / 2 / (1 << 20), err
}

// liveHeap is twice what was live in the last garbage collection.
var liveHeap = regexp.MustCompile(`(?m)^go_memstats_next_gc_bytes (\S+)$`)

type jobsBench struct {
	controlPlane *cluster.ControlPlane
	kubelet      cluster.Kubelet
	jobs         dynamic.ResourceInterface
	metadata     metadata.ResourceInterface

	mutex       sync.Mutex
	generations map[string]int64     // of the jobs: how often each was written
	ending      map[string]time.Time // by job, since when its driver ends, until that is written
	lags        []time.Duration
}

// jobsMeasured is what was measured in all rounds of a kind.
type jobsMeasured struct {
	measured
	ends            int
	took            time.Duration      // for all ends
	first           map[string]float64 // calls for the first look at each driver
	counted         float64            // by the recorders' metric
	twice           int                // runs that a job has twice
	late, wrong     int                // whose end was not written a minute after the last one, or otherwise
	history, inUse  float64            // MiB of etcd that a round added, before and after a compaction
	firstTook, last time.Duration      // for the first look at all drivers, and for the last run
}

// jobWrites returns how often jobs were written because drivers ended.
func (m *jobsMeasured) jobWrites() float64 {
	return m.calls["update"] + m.calls["create"] - m.calls["conflict"]
}

// jobCalls are the calls of the recorders alone.
var jobCalls = map[string]*regexp.Regexp{
	"read":     jobCall(`verb="GET"`),
	"update":   jobCall(`verb="PUT"`),
	"create":   jobCall(`verb="POST"`),
	"conflict": regexp.MustCompile(`(?m)^apiserver_request_total\{code="409",.*resource="sparkjobs".* (\S+)$`),
}

func jobCall(verb string) *regexp.Regexp {
	return regexp.MustCompile(`(?m)^apiserver_request_total\{.*resource="sparkjobs".*` + verb + `.* (\S+)$`)
}

var runsCounted = regexp.MustCompile(`(?m)^spark_vitals_runs_total\{.* (\S+)$`)

func newJobsBench(ctx context.Context, c *cluster.ControlPlane) (*jobsBench, error) {
	config := rest.CopyConfig(c.Config)
	config.AcceptContentTypes, config.ContentType = runtime.ContentTypeProtobuf, runtime.ContentTypeProtobuf
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	jobs, err := dynamic.NewForConfig(c.Config)
	if err != nil {
		return nil, err
	}
	onlyMetadata, err := metadata.NewForConfig(c.Config)
	if err != nil {
		return nil, err
	}
	if err := c.Namespace(ctx, namespace, nil); err != nil {
		return nil, err
	}
	b := &jobsBench{
		controlPlane: c, kubelet: cluster.Kubelet{Interface: client}, generations: map[string]int64{},
		jobs: jobs.Resource(sparkjob.Resource).Namespace(namespace), metadata: onlyMetadata.Resource(sparkjob.Resource).Namespace(namespace),
	}
	return b, b.define(ctx, jobs)
}

// define makes the CustomResourceDefinition, and waits until it is served.
func (b *jobsBench) define(ctx context.Context, client dynamic.Interface) error {
	text, err := cluster.File(filepath.Join("charts", "spark-vitals", "files", "sparkjobs.yaml"))
	if err != nil {
		return err
	}
	definition := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(text, &definition.Object); err != nil {
		return err
	}
	definitions := client.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	if _, err := definitions.Create(ctx, definition, metav1.CreateOptions{}); err != nil {
		return err
	}
	return patiently(ctx, time.Minute, func() bool {
		_, err := b.jobs.List(ctx, metav1.ListOptions{Limit: 1})
		return err == nil
	})
}

// patiently waits until something holds.
func patiently(ctx context.Context, atMost time.Duration, holds func() bool) error {
	for end := time.Now().Add(atMost); ; time.Sleep(50 * time.Millisecond) {
		switch {
		case holds():
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case time.Now().After(end):
			return fmt.Errorf("it does not hold after %s", atMost)
		}
	}
}

// fill creates the jobs, each with as many runs as it keeps, and returns how many KiB each
// takes in etcd.
func (b *jobsBench) fill(ctx context.Context) (each float64, err error) {
	before, err := b.compact(ctx)
	if err != nil {
		return 0, err
	}
	text, err := json.Marshal(pastRuns())
	if err != nil {
		return 0, err
	}
	making, within := errgroup.WithContext(ctx)
	making.SetLimit(16)
	for i := range jobsKept {
		making.Go(func() error {
			object := &unstructured.Unstructured{Object: map[string]any{}}
			object.SetGroupVersionKind(sparkjob.Resource.GroupVersion().WithKind(sparkjob.Kind))
			object.SetName(jobName(i))
			var status map[string]any
			if err := json.Unmarshal(text, &status); err != nil {
				return err
			}
			object.Object["status"] = status
			_, err := b.jobs.Create(within, object, metav1.CreateOptions{})
			return err
		})
	}
	if err := making.Wait(); err != nil {
		return 0, err
	}
	after, err := b.compact(ctx)
	return (after - before) * 1024 / jobsKept, err
}

func jobName(i int) string { return fmt.Sprintf("job-%d", i) }

// pastRuns are the runs of a job that ran each night: most succeeded, and executors died.
func pastRuns() (s sparkjob.Status) {
	for i := range sparkjob.DefaultRuns {
		began := metav1.NewTime(time.Now().Add(-time.Duration(sparkjob.DefaultRuns-i) * 24 * time.Hour).UTC().Truncate(time.Second))
		ended := metav1.NewTime(began.Add(time.Hour))
		r := sparkjob.Run{
			Driver: fmt.Sprintf("nightly-sales-%d-driver", i), UID: types.UID(fmt.Sprintf("11111111-2222-3333-4444-%012d", i)),
			Application: fmt.Sprintf("spark-%032d", i), Version: "3.5.9", Began: began, Ended: &ended, State: sparkjob.Succeeded, Executors: 20,
			Settings: sparkjob.Containers[sparkjob.Settings]{
				Driver:   sparkjob.Settings{LimitMiB: 1408, HeapMiB: 1024},
				Executor: sparkjob.Settings{LimitMiB: 4505, HeapMiB: 4096, OverheadMiB: 409, Cores: 4, TaskCPUs: 1},
			},
			Peaks: sparkjob.Containers[sparkjob.Peaks]{
				Driver:   sparkjob.Peaks{HeapMiB: 600, MetaspaceMiB: 120, DirectMiB: 20, JVMMiB: 1000, AllMiB: 1000, OutsideMiB: 400},
				Executor: sparkjob.Peaks{HeapMiB: 3000, MetaspaceMiB: 90, DirectMiB: 100, JVMMiB: 3600, PythonMiB: 300, AllMiB: 3900, OutsideMiB: 900},
			},
			Measured: &ended, ResourceVersion: strconv.Itoa(i + 1), Seen: ended,
		}
		if i%5 == 0 {
			r.State, r.Reason, r.LostExecutorSeconds = sparkjob.Killed, "DriverOOMKilled", 36000
			r.Deaths = []oom.Deaths{{Role: spark.Driver, Cause: oom.OOMKilled, Count: 1}, {Role: spark.Executor, Cause: oom.OOMKilled, Count: 3}}
		}
		s.Add(r, sparkjob.DefaultRuns)
	}
	return s
}

// watch notes how often each job is written. It asks for the metadata alone, so it costs
// little.
func (b *jobsBench) watch(ctx context.Context) error {
	list, err := b.metadata.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for i := range list.Items {
		b.generations[list.Items[i].Name] = list.Items[i].Generation
	}
	events, err := b.metadata.Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		return err
	}
	go func() {
		for event := range events.ResultChan() {
			if o, ok := event.Object.(*metav1.PartialObjectMetadata); ok {
				b.noteWrite(o, time.Now())
			}
		}
	}()
	return nil
}

func (b *jobsBench) noteWrite(o *metav1.PartialObjectMetadata, now time.Time) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	b.generations[o.Name] = o.Generation
	if since, ok := b.ending[o.Name]; ok {
		b.lags = append(b.lags, now.Sub(since))
		delete(b.ending, o.Name)
	}
}

// run runs one round, in which the drivers of jobs from first on end.
func (b *jobsBench) run(ctx context.Context, name string, first int, keep bool, m *jobsMeasured) error {
	drivers, err := b.makeDrivers(ctx, name, first)
	if err != nil {
		return err
	}
	var flags []string
	if keep {
		flags = append(flags, "--spark-jobs")
	}
	written := b.written(first)
	start, err := snapshotOf(ctx, b.kubelet, nil, jobCalls)
	if err != nil {
		return err
	}
	recorders, err := startRecorders(ctx, b.controlPlane, 2, map[string]any{"sparkJobs": map[string]any{"enabled": true}}, flags...)
	defer func() {
		for _, r := range recorders {
			r.Stop()
		}
	}()
	if err != nil {
		return err
	}
	begun := time.Now()
	if keep { // a driver that runs is written some seconds after it was seen first
		if err := patiently(ctx, 5*time.Minute, func() bool {
			return !slices.ContainsFunc(b.grown(first, written), func(n int64) bool { return n == 0 })
		}); err != nil {
			return fmt.Errorf("waiting until all drivers are written: %w", err)
		}
		m.firstTook = max(m.firstTook, time.Since(begun))
	}
	for _, r := range recorders {
		m.idle = append(m.idle, memory(r.Pid(), "VmRSS"))
	}
	size, err := b.compact(ctx)
	if err != nil {
		return err
	}
	before, err := snapshotOf(ctx, b.kubelet, recorders, jobCalls)
	if err != nil {
		return err
	}
	if err := b.end(ctx, drivers, first, m); err != nil {
		return err
	}
	after, err := snapshotOf(ctx, b.kubelet, recorders, jobCalls)
	if err != nil {
		return err
	}
	m.compareJobs(start, before, after)
	if err := b.grow(ctx, size, m); err != nil {
		return err
	}
	for _, r := range recorders {
		m.memory = append(m.memory, memory(r.Pid(), "VmHWM"))
		text, err := r.Metrics(ctx)
		if err != nil {
			return err
		}
		m.counted += sum(runsCounted, text)
		r.Stop()
	}
	if keep {
		if err := b.check(ctx, drivers, first, m); err != nil {
			return err
		}
	}
	return b.removeDrivers(ctx, drivers)
}

// grow measures by how much etcd grew in a round.
func (b *jobsBench) grow(ctx context.Context, before float64, m *jobsMeasured) error {
	now, err := b.etcd(ctx)
	if err != nil {
		return err
	}
	compacted, err := b.compact(ctx)
	m.history, m.inUse = max(m.history, now.inUse()-before), max(m.inUse, compacted-before)
	return err
}

func (b *jobsBench) makeDrivers(ctx context.Context, name string, first int) ([]*corev1.Pod, error) {
	drivers := make([]*corev1.Pod, jobEnds)
	making, ctx := errgroup.WithContext(ctx)
	making.SetLimit(16)
	for i := range drivers {
		making.Go(func() (err error) {
			drivers[i], err = b.kubelet.Run(ctx, namespace, fmt.Sprintf("%s-%d", name, i), jobName(first+i))
			return err
		})
	}
	return drivers, making.Wait()
}

func (b *jobsBench) removeDrivers(ctx context.Context, drivers []*corev1.Pod) error {
	removing, ctx := errgroup.WithContext(ctx)
	removing.SetLimit(16)
	for _, p := range drivers {
		removing.Go(func() error { return b.kubelet.Remove(ctx, p) })
	}
	return removing.Wait()
}

// written returns how often the jobs of a round were written so far, and grown how often
// since then.
func (b *jobsBench) written(first int) (all []int64) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	for i := range jobEnds {
		all = append(all, b.generations[jobName(first+i)])
	}
	return all
}

func (b *jobsBench) grown(first int, since []int64) []int64 {
	all := b.written(first)
	for i := range all {
		all[i] -= since[i]
	}
	return all
}

// end ends drivers at the rate, deletes every second one a second later, as operators do,
// and waits until all runs are written, for at most a minute.
func (b *jobsBench) end(ctx context.Context, drivers []*corev1.Pod, first int, m *jobsMeasured) error {
	b.mutex.Lock()
	b.ending, b.lags = map[string]time.Time{}, nil
	b.mutex.Unlock()
	m.ends += len(drivers)
	begun := time.Now()
	var last time.Time
	ending, within := errgroup.WithContext(ctx)
	tick := time.NewTicker(time.Second / jobRate)
	defer tick.Stop()
	for i, driver := range drivers {
		select {
		case <-within.Done():
			return ending.Wait()
		case <-tick.C:
		}
		ending.Go(func() error {
			since := time.Now()
			b.mutex.Lock()
			b.ending[jobName(first+i)] = since
			b.mutex.Unlock()
			reason, code := "Completed", int32(0)
			if i%killedEach == 0 {
				reason, code = "OOMKilled", 137
			}
			ended, err := b.kubelet.Die(within, driver, reason, code)
			if err != nil {
				return err
			}
			b.mutex.Lock()
			m.writes = append(m.writes, time.Since(since))
			last = time.Now()
			b.mutex.Unlock()
			if i%2 == 1 {
				return nil
			}
			time.Sleep(time.Second)
			return b.kubelet.Remove(within, ended)
		})
	}
	if err := ending.Wait(); err != nil {
		return err
	}
	m.took += last.Sub(begun)
	_ = patiently(ctx, time.Minute, func() bool { // those that are not written are counted below
		b.mutex.Lock()
		defer b.mutex.Unlock()
		return len(b.lags) == 0 || len(b.ending) == 0
	})
	m.last = max(m.last, time.Since(last))
	b.mutex.Lock()
	defer b.mutex.Unlock()
	m.lags = append(m.lags, b.lags...)
	return ctx.Err()
}

// compareJobs adds what changed in a round, which started before the recorders did.
func (m *jobsMeasured) compareJobs(start, before, after snapshot) {
	if m.calls == nil {
		m.calls, m.first, m.recorders = map[string]float64{}, map[string]float64{}, make([]float64, len(before.recorders))
	}
	for name := range jobCalls {
		m.first[name] += before.calls[name] - start.calls[name]
		m.calls[name] += after.calls[name] - before.calls[name]
	}
	m.apiserver += after.apiserver - before.apiserver
	for i := range before.recorders {
		m.recorders[i] += after.recorders[i] - before.recorders[i]
	}
}

// check counts the runs of the drivers that no job has, or that a job has twice, or that
// did not end as their driver did.
func (b *jobsBench) check(ctx context.Context, drivers []*corev1.Pod, first int, m *jobsMeasured) error {
	found, late, wrong := map[types.UID]int{}, 0, 0
	place := map[types.UID]int{}
	for i, p := range drivers {
		place[p.UID] = i
	}
	list := func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return b.jobs.List(ctx, o) }
	_, err := paged.Each(ctx, metav1.ListOptions{}, list, func(o runtime.Object) error {
		object := o.(*unstructured.Unstructured)
		status, err := sparkjob.Read(object.Object)
		if err != nil {
			return err
		}
		for i := range status.Runs {
			r := &status.Runs[i]
			at, ok := place[r.UID]
			if !ok {
				continue
			}
			found[r.UID]++
			want := sparkjob.Succeeded
			if at%killedEach == 0 {
				want = sparkjob.Killed
			}
			switch {
			case object.GetName() != jobName(first+at), r.State != want && r.State != sparkjob.Running:
				wrong++
			case r.State == sparkjob.Running:
				late++
			}
		}
		return nil
	})
	for _, p := range drivers {
		switch n := found[p.UID]; {
		case n == 0:
			m.lost++
		case n > 1:
			m.twice++
		}
	}
	m.late, m.wrong = m.late+late, m.wrong+wrong
	return err
}

// etcdStatus is what etcd says about its database.
type etcdStatus struct {
	Header struct {
		Revision string `json:"revision"`
	} `json:"header"`
	InUse string `json:"dbSizeInUse"`
}

// inUse returns the size of what is in the database, in MiB.
func (s *etcdStatus) inUse() float64 {
	n, _ := strconv.ParseFloat(s.InUse, 64)
	return n / (1 << 20)
}

func (b *jobsBench) etcd(ctx context.Context) (s etcdStatus, err error) {
	return s, b.askEtcd(ctx, "maintenance/status", map[string]any{}, &s)
}

// compact removes old versions of objects from etcd, as an API server does every five
// minutes, and returns the size of what is left, in MiB.
func (b *jobsBench) compact(ctx context.Context) (mebibytes float64, err error) {
	s, err := b.etcd(ctx)
	if err != nil {
		return 0, err
	}
	if err := b.askEtcd(ctx, "kv/compaction", map[string]any{"revision": s.Header.Revision, "physical": true}, nil); err != nil {
		return 0, err
	}
	if err := b.askEtcd(ctx, "maintenance/defragment", map[string]any{}, nil); err != nil {
		return 0, err
	}
	s, err = b.etcd(ctx)
	return s.inUse(), err
}

// askEtcd calls etcd's API by JSON.
func (b *jobsBench) askEtcd(ctx context.Context, what string, body, answer any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, b.controlPlane.Etcd+"/v3/"+what, bytes.NewReader(text))
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("etcd, %s: %s", what, response.Status)
	}
	if answer == nil {
		return nil
	}
	return json.NewDecoder(response.Body).Decode(answer)
}

func (b *jobsBench) describe(d *document, perJob float64, without, with *jobsMeasured) {
	past, _ := json.Marshal(pastRuns()) // plain data: it cannot fail
	d.say("\n%d jobs with %d runs each (%.1f KiB as JSON, %.1f KiB in etcd). %d drivers run, of a job each, and end, %d a second if the machine can. One of %d is killed, and every second one is deleted a second later. Two recorders; %d rounds without `--spark-jobs` and %d with, in turns.",
		jobsKept, sparkjob.DefaultRuns, float64(len(past))/1024, perJob, jobEnds, jobRate, killedEach, jobRounds, jobRounds)
	row := func(what string, show func(*jobsMeasured) string) { d.row(what, show(without), show(with)) }
	only := func(what, value string) { d.row(what, "", value) }
	d.table("", "deaths alone", "and runs of jobs")
	row("ends a second", func(m *jobsMeasured) string { return fmt.Sprintf("%.0f", float64(m.ends)/m.took.Seconds()) })
	row("status write, p50 / p99", func(m *jobsMeasured) string { return quantiles(m.writes) })
	row("API server, CPU for an end", func(m *jobsMeasured) string { return fmt.Sprintf("%.1f ms", 1000*m.apiserver/float64(m.ends)) })
	row("recorder, CPU for an end", func(m *jobsMeasured) string {
		var all []float64
		for _, seconds := range m.recorders {
			all = append(all, 1000*seconds/float64(m.ends))
		}
		return each(all, "%.1f ms")
	})
	row("recorder, memory before", func(m *jobsMeasured) string { return each(m.idle, "%.0f MiB") })
	row("recorder, memory at most", func(m *jobsMeasured) string { return each(m.memory, "%.0f MiB") })
	row("etcd, old versions of a round", func(m *jobsMeasured) string { return fmt.Sprintf("%.0f MiB", m.history-m.inUse) })
	only("from the end to the written run, p50 / p99", quantiles(with.lags))
	only("lost; twice; not written a minute later; otherwise than they ended", fmt.Sprintf("%d; %d; %d; %d", with.lost, with.twice, with.late, with.wrong))
	only("`spark_vitals_runs_total`, of ends", fmt.Sprintf("%.0f of %d", with.counted, with.ends))
	of := func(n float64) string { return fmt.Sprintf("%.2f", n/float64(with.ends)) }
	only("writes of a job, for an end", of(with.jobWrites()))
	only("reads, for an end", of(with.calls["read"]))
	only("conflicts, for an end", of(with.calls["conflict"]))
	only("first look at all drivers after a start", with.firstTook.Round(time.Second).String())
	only("for that, a driver: writes; reads; conflicts", fmt.Sprintf("%s; %s; %s", of(with.first["update"]+with.first["create"]-with.first["conflict"]), of(with.first["read"]), of(with.first["conflict"])))
}

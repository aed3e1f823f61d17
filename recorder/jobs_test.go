package recorder

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/driverui"
	"github.com/spark-vitals/spark-vitals/internal/eventually"
	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
	"github.com/spark-vitals/spark-vitals/sparkjob"
)

// jobServer is an API server that knows SparkJobs, with optimistic locking.
type jobServer struct {
	mutex   sync.Mutex
	absent  bool // it does not know SparkJobs
	asked   int  // how often it was called while it does not
	version int
	writes  int
	objects map[string]*unstructured.Unstructured
	calls   int
	refused string // a name that it deletes never
	limit   int64  // of the last list
	forbids int    // so many calls
	before  func() // before a write; nil does nothing
	cached  bool   // it answers reads from a cache that knows no object
}

const jobsPath = "/apis/spark-vitals.io/v1alpha1/"

func (s *jobServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if before := s.before; before != nil && r.Method != http.MethodGet {
		s.before = nil
		before()
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.absent {
		s.asked++
		http.NotFound(w, r)
		return
	}
	s.calls++
	w.Header().Set("Content-Type", "application/json")
	if s.forbids > 0 {
		s.forbids--
		answerWith(w, nil, apierrors.NewForbidden(sparkjob.Resource.GroupResource(), "nightly", errors.New("no role")))
		return
	}
	_, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, jobsPath), "/sparkjobs/")
	sent := &unstructured.Unstructured{}
	_ = json.NewDecoder(r.Body).Decode(&sent.Object)
	object := s.objects[name]
	resource := sparkjob.Resource.GroupResource()
	switch {
	case r.Method == http.MethodGet && name == "":
		s.limit, _ = strconv.ParseInt(r.URL.Query().Get("limit"), 10, 64)
		list := &unstructured.UnstructuredList{Object: map[string]any{"apiVersion": "spark-vitals.io/v1alpha1", "kind": "SparkJobList"}}
		for _, o := range s.objects {
			list.Items = append(list.Items, *o)
		}
		answerWith(w, list, nil)
	case r.Method == http.MethodPost && s.objects[sent.GetName()] != nil:
		answerWith(w, nil, apierrors.NewAlreadyExists(resource, sent.GetName()))
	case r.Method == http.MethodPost:
		sent.SetNamespace("spark")
		sent.SetUID(types.UID("uid of " + sent.GetName()))
		s.keep(sent)
		answerWith(w, sent, nil)
	case object == nil, s.cached && r.Method == http.MethodGet && r.URL.Query().Get("resourceVersion") == "0":
		answerWith(w, nil, apierrors.NewNotFound(resource, name))
	case r.Method == http.MethodPut && sent.GetResourceVersion() != object.GetResourceVersion():
		answerWith(w, nil, apierrors.NewConflict(resource, name, fmt.Errorf("it is %s", object.GetResourceVersion())))
	case r.Method == http.MethodPut:
		s.keep(sent)
		answerWith(w, sent, nil)
	case r.Method == http.MethodDelete && name == s.refused:
		answerWith(w, nil, apierrors.NewForbidden(resource, name, errors.New("it is protected")))
	case r.Method == http.MethodDelete:
		delete(s.objects, name)
		answerWith(w, object, nil)
	default:
		answerWith(w, object, nil)
	}
}

func (s *jobServer) keep(o *unstructured.Unstructured) {
	s.version++
	s.writes++
	o.SetResourceVersion(strconv.Itoa(s.version))
	s.objects[o.GetName()] = o
}

func answerWith(w http.ResponseWriter, object any, err *apierrors.StatusError) {
	if err != nil {
		err.ErrStatus.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
		w.WriteHeader(int(err.ErrStatus.Code))
		object = err.ErrStatus
	}
	_ = json.NewEncoder(w).Encode(object)
}

// nightly returns what is kept of the job.
func (s *jobServer) nightly(t *testing.T) sparkjob.Status {
	t.Helper()
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.objects["nightly"] == nil {
		return sparkjob.Status{}
	}
	status, err := sparkjob.Read(s.objects["nightly"].Object)
	if err != nil {
		t.Fatal(err)
	}
	return status
}

// remembering is a recorder that keeps the runs of jobs, and where it keeps them. It has
// no informers running, and the test looks at runs.
func remembering(t *testing.T, on *jobServer) *site {
	t.Helper()
	server := httptest.NewServer(on)
	t.Cleanup(server.Close)
	jobs, err := dynamic.NewForConfig(&rest.Config{Host: server.URL, QPS: -1})
	if err != nil {
		t.Fatal(err)
	}
	client := fake.NewClientset()
	r, err := newRecorder(Config{Client: client, Everywhere: true, Log: slog.New(slog.DiscardHandler), Jobs: Jobs{Client: jobs, Runs: 20, Keep: 30 * 24 * time.Hour}}, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	r.now = func() time.Time { return now }
	t.Cleanup(func() { r.queue.ShutDown(); r.events.ShutDown(); r.jobs.queue.ShutDown() })
	return &site{r, client}
}

func newServer() *jobServer { return &jobServer{objects: map[string]*unstructured.Unstructured{}} }

// nightly is a driver of the job nightly that runs.
func nightly(t *testing.T, uid types.UID, began time.Time) *corev1.Pod {
	t.Helper()
	p := dead(t, "Error")
	p.UID, p.Name, p.CreationTimestamp = uid, "driver-"+string(uid), metav1.NewTime(began)
	p.Annotations = map[string]string{annotations.Job: "nightly"}
	p.Status = corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{
		{Name: p.Spec.Containers[0].Name, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(began)}}},
	}}
	return p
}

// ended is how the driver looks after its end.
func ended(p *corev1.Pod, version, reason string, code int32, at time.Time) *corev1.Pod {
	p = p.DeepCopy()
	p.ResourceVersion = version
	p.Status.ContainerStatuses[0].State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
		Reason: reason, ExitCode: code, StartedAt: p.CreationTimestamp, FinishedAt: metav1.NewTime(at),
	}}
	return p
}

// looks has a recorder look at a run as its worker does.
func looks(t *testing.T, s *site, p *corev1.Pod, gone bool) time.Duration {
	t.Helper()
	again, err := s.lookAtRun(t.Context(), strip(p), gone)
	if err != nil {
		t.Fatal(err)
	}
	return again
}

// A run counts once, by two replicas, one of which is restarted.
func TestRunCountsOnce(t *testing.T) {
	on := newServer()
	running := nightly(t, "u-1", now.Add(-time.Hour))
	killed := ended(running, "7", "OOMKilled", 137, now.Add(-time.Minute))
	for _, s := range []*site{remembering(t, on), remembering(t, on), remembering(t, on)} {
		if again := looks(t, s, running, false); again != lastLook {
			t.Errorf("a running driver is looked at again after %s", again)
		}
		for range 2 {
			if again := looks(t, s, killed, false); again != 0 {
				t.Errorf("an ended one after %s", again)
			}
		}
		deleted := killed.DeepCopy()
		deleted.ResourceVersion = "8"
		looks(t, s, deleted, true)
	}
	status := on.nightly(t)
	if len(status.Runs) != 1 || status.Known != 1 || status.Bad != 1 || status.Deaths != 1 || on.writes != 2 {
		t.Fatalf("%d writes, %+v", on.writes, status)
	}
	r := status.Runs[0]
	if r.State != sparkjob.Killed || r.Reason != "DriverOOMKilled" || !r.Ended.Equal(&metav1.Time{Time: now.Add(-time.Minute)}) || r.Settings.Driver.LimitMiB != 896 || !strings.Contains(status.Advice, "memoryOverhead") {
		t.Errorf("%+v", status)
	}
}

// The run of a driver that only runs on is written once in some minutes.
func TestRunThatGoesOn(t *testing.T) {
	on := newServer()
	s := remembering(t, on)
	p := nightly(t, "u-1", now.Add(-time.Minute))
	ui := &testUI{measured: driverui.Executors{Of: map[int64]driverui.Peaks{1: {Heap: 100 << 20, JVM: 500 << 20, Python: 100 << 20}, 2: {Heap: 300 << 20}}}, driver: driverui.Peaks{Heap: 50 << 20}}
	s.knowledge = newKnowledge(ui)
	settings, err := ui.Settings(t.Context(), spark.Pod{})
	if err != nil {
		t.Fatal(err)
	}
	of[known](s.knowledge, s.knowledge.drivers, p.UID).settings.Store(settings)
	later := now
	s.now = func() time.Time { return later }
	for range 11 { // ten minutes
		looks(t, s, p, false)
		later = later.Add(time.Minute)
		ui.measured.Of[2] = driverui.Peaks{Heap: ui.measured.Of[2].Heap + 1<<20}
	}
	if on.writes != 3 {
		t.Errorf("%d writes", on.writes)
	}
	looks(t, s, ended(p, "9", "Completed", 0, later), false)
	r := on.nightly(t).Runs[0]
	want := sparkjob.Containers[sparkjob.Peaks]{Driver: sparkjob.Peaks{HeapMiB: 50}, Executor: sparkjob.Peaks{HeapMiB: r.Peaks.Executor.HeapMiB, JVMMiB: 500, PythonMiB: 100, AllMiB: 600, OutsideMiB: 500}}
	if on.writes != 4 || r.Measured == nil || r.State != sparkjob.Succeeded || r.Peaks != want || r.Peaks.Executor.HeapMiB < 305 || r.Settings.Executor.HeapMiB != 512 || r.Settings.Executor.OverheadMiB != 384 {
		t.Errorf("%d writes, %+v", on.writes, r)
	}
}

// Of many executors none is left out. If the driver may have forgotten some, the run is not
// measured until then.
func TestMeasurementOfManyExecutors(t *testing.T) {
	for dead, want := range map[int]bool{retainedDead - 1: true, retainedDead: false} {
		var m measurement
		for id := range int64(10_000) {
			m.add(&driverui.Executor{ID: id + 1, Dead: id < int64(dead), Peaks: driverui.Peaks{Heap: 100 << 20, JVM: (500 + id) << 20}})
		}
		k := runKnown{}
		k.measured(&m, now)
		if k.peaks.Executor.AllMiB != 10_499 || k.peaks.Executor.OutsideMiB != 10_399 || (k.at != nil) != want {
			t.Errorf("%d dead: %+v at %v", dead, k.peaks, k.at)
		}
	}
}

// The end of a run is measured, unless it is its last tenth.
func TestLookAfter(t *testing.T) {
	for age, want := range map[time.Duration]time.Duration{0: firstLook, 4 * time.Minute: firstLook, 20 * time.Minute: 2 * time.Minute, 3 * time.Hour: lastLook} {
		if got := lookAfter(age); got != want {
			t.Errorf("%s: %s", age, got)
		}
	}
}

// Two replicas that write at the same time lose nothing.
func TestRunsConflict(t *testing.T) {
	on := newServer()
	a, b := remembering(t, on), remembering(t, on)
	first := ended(nightly(t, "u-1", now.Add(-2*time.Hour)), "7", "Completed", 0, now.Add(-time.Hour))
	second := ended(nightly(t, "u-2", now.Add(-time.Hour)), "8", "Completed", 0, now)
	third := ended(nightly(t, "u-3", now.Add(-time.Minute)), "9", "Error", 1, now)
	on.before = func() { looks(t, b, second, false) } // both create it
	looks(t, a, first, false)
	on.before = func() { looks(t, b, third, false) } // both update it
	looks(t, a, ended(first, "10", "Error", 1, now.Add(-time.Hour)), false)
	status := on.nightly(t)
	if len(status.Runs) != 3 || status.Bad != 2 || status.Runs[0].UID != "u-3" || status.Runs[2].State != sparkjob.Failed {
		t.Errorf("%+v", status)
	}
}

// What an API server has in its cache may be old: then nothing is lost.
func TestOldRead(t *testing.T) {
	on := newServer()
	on.cached = true
	s := remembering(t, on)
	for _, uid := range []types.UID{"u-1", "u-2", "u-3"} {
		looks(t, s, ended(nightly(t, uid, now.Add(-time.Hour)), "7", "Completed", 0, now), false)
	}
	if status := on.nightly(t); len(status.Runs) != 3 || on.writes != 3 {
		t.Errorf("%d writes: %+v", on.writes, status)
	}
}

// If the API server does not know SparkJobs, that is said once, costs few calls, and is
// no error. As soon as it does, runs are kept.
func TestNoSparkJobs(t *testing.T) {
	on := newServer()
	on.absent = true
	s := remembering(t, on)
	var said strings.Builder
	s.Log = slog.New(slog.NewTextHandler(&said, nil))
	later := now
	s.now = func() time.Time { return later }
	p := nightly(t, "u-1", now.Add(-time.Hour))
	for range 3 {
		looks(t, s, p, false)
		looks(t, s, ended(nightly(t, "u-2", now.Add(-time.Hour)), "8", "Completed", 0, now), false)
		later = later.Add(absentWait)
	}
	s.forgetJobs(t.Context())
	if n := strings.Count(said.String(), "\n"); n != 1 || on.asked != 4 || testutil.ToFloat64(s.metrics.errors.WithLabelValues("job")) != 0 {
		t.Errorf("asked %d times, said %d times: %s", on.asked, n, said.String())
	}
	on.absent = false
	looks(t, s, p, false)
	if on.writes != 1 {
		t.Errorf("%d writes", on.writes)
	}
}

// A driver that was deleted before its end was seen has an end that nobody knows, and so
// has one that is gone when a recorder comes back.
func TestRunWithoutEnd(t *testing.T) {
	on := newServer()
	s := remembering(t, on)
	looks(t, s, nightly(t, "u-1", now.Add(-2*time.Hour)), false)
	looks(t, s, nightly(t, "u-2", now.Add(-time.Hour)), true)
	status := on.nightly(t)
	if len(status.Runs) != 2 || status.Runs[0].State != sparkjob.Unknown || status.Runs[1].State != sparkjob.Unknown {
		t.Errorf("%+v", status.Runs)
	}
}

// What another replica just saw start is not taken for gone.
func TestRunThatJustBegan(t *testing.T) {
	on := newServer()
	looks(t, remembering(t, on), nightly(t, "u-1", now.Add(-time.Minute)), false)
	looks(t, remembering(t, on), nightly(t, "u-2", now.Add(-time.Hour)), false)
	if r := on.nightly(t).Runs; len(r) != 2 || r[0].State != sparkjob.Running || r[1].State != sparkjob.Running {
		t.Errorf("%+v", r)
	}
}

// A job that was not used for a month is deleted, and its old drivers bring it not back.
func TestUnusedJobsAreForgotten(t *testing.T) {
	on := newServer()
	s := remembering(t, on)
	began := now.Add(-40 * 24 * time.Hour)
	s.now = func() time.Time { return began.Add(2 * time.Hour) }
	old := ended(nightly(t, "u-1", began), "7", "Completed", 0, began.Add(time.Hour))
	looks(t, s, old, false)
	other := nightly(t, "u-2", now.Add(-time.Hour))
	other.Annotations[annotations.Job] = "hourly"
	s = remembering(t, on)
	looks(t, s, other, false)
	s.forgetJobs(t.Context())
	looks(t, s, old, false)
	if on.objects["nightly"] != nil || on.objects["hourly"] == nil {
		t.Errorf("kept: %v", on.objects)
	}
}

// A job whose driver still runs stays, however long ago it was written. One whose driver is
// gone is told so, which is the only write that it may ever get, and is forgotten later.
func TestJobsInUseAreNotForgotten(t *testing.T) {
	on := newServer()
	s := remembering(t, on)
	later := now
	s.now = func() time.Time { return later }
	p := nightly(t, "u-1", now.Add(-time.Hour))
	looks(t, s, p, false)
	s.see(t, p)
	later = now.Add(60 * 24 * time.Hour)
	if s.forgetJobs(t.Context()); on.objects["nightly"] == nil || on.nightly(t).Runs[0].State != sparkjob.Running {
		t.Fatal("a job that runs is forgotten")
	}
	if looks(t, s, p, false); on.writes != 2 {
		t.Errorf("%d writes: what runs for long is to be seen", on.writes)
	}
	later = later.Add(60 * 24 * time.Hour)
	if err := s.pods.at("spark").GetIndexer().Delete(strip(p)); err != nil {
		t.Fatal(err)
	}
	if s.forgetJobs(t.Context()); on.objects["nightly"] == nil || on.nightly(t).Runs[0].State != sparkjob.Unknown {
		t.Errorf("%+v", on.nightly(t))
	}
	if s.forgetJobs(t.Context()); on.objects["nightly"] != nil {
		t.Error("it is not forgotten")
	}
}

// Jobs are read in small pages, one that cannot be deleted does not keep the others, and
// those of namespaces that are not recorded stay.
func TestForgettingGoesOn(t *testing.T) {
	on := newServer()
	s := remembering(t, on)
	for _, name := range []string{"a", "b", "c"} {
		object := newJob(name)
		object.SetNamespace("spark")
		object.SetUID(types.UID(name))
		on.keep(object)
	}
	on.refused = "b"
	s.Everywhere = false
	if s.forgetJobs(t.Context()); len(on.objects) != 3 {
		t.Errorf("kept: %v", on.objects)
	}
	s.Everywhere = true
	if s.forgetJobs(t.Context()); len(on.objects) != 1 || on.limit != pageOfJobs || testutil.ToFloat64(s.metrics.errors.WithLabelValues("job")) != 1 {
		t.Errorf("kept: %v, with pages of %d", on.objects, on.limit)
	}
}

// The run of a driver that is gone waits for an API server that has just started, and for
// one that refuses it for long.
func TestRunOfAGoneDriverIsTriedAgain(t *testing.T) {
	on := newServer()
	on.forbids = 3
	s := remembering(t, on)
	p := ended(nightly(t, "u-1", now.Add(-time.Hour)), "7", "Completed", 0, now)
	if !s.jobs.noteGone(strip(p), now) {
		t.Fatal("it does not wait")
	}
	s.jobs.queue.Add(keyOf(mustPod(t, strip(p))))
	go s.writeRuns(t.Context())
	eventually.True(t, "its run is written", func() bool { return len(on.nightly(t).Runs) == 1 })
	later := now.Add(goneFor)
	if s.jobs.noteGone(strip(p), now); !s.jobs.hopes(p.UID, later.Add(-time.Second)) || s.jobs.hopes(p.UID, later) {
		t.Error("it does not wait for an hour")
	}
}

// An event of a driver that ended works out nothing: the worker does.
func TestEventsWorkOutNothing(t *testing.T) {
	s := remembering(t, newServer())
	p := ended(nightly(t, "u-1", now.Add(-time.Hour)), "7", "Error", 1, now)
	s.sawRun(mustPod(t, p))
	known := s.jobs.known(p.UID)
	if known.ended == nil || known.end != nil {
		t.Errorf("%+v", known.end)
	}
	if end := known.endSeen(s.runOf); end.State != sparkjob.Failed || known.ended != nil || known.end != end {
		t.Errorf("%+v", end)
	}
	if s.sawRun(mustPod(t, nightly(t, "u-1", now.Add(-time.Hour)))); known.ended != nil || known.end != nil {
		t.Error("it runs again")
	}
}

// A driver whose annotation changes stays a run of its job, and a namespace gets only so
// many jobs, however many its drivers name.
func TestFewJobs(t *testing.T) {
	on := newServer()
	s := remembering(t, on)
	p := nightly(t, "u-1", now.Add(-time.Hour))
	looks(t, s, p, false)
	p.Annotations[annotations.Job] = "other"
	if looks(t, s, ended(p, "7", "Completed", 0, now), false); len(on.objects) != 1 {
		t.Errorf("%d jobs of one run", len(on.objects))
	}
	many := func() {
		for i := range 2 * newJobsEach {
			p := nightly(t, types.UID(fmt.Sprint("u-", i+2)), now.Add(-time.Hour))
			p.Annotations[annotations.Job] = fmt.Sprint("job-", i)
			if _, err := s.lookAtRun(t.Context(), strip(p), false); err != nil && !errors.Is(err, errTooManyJobs) {
				t.Fatal(err)
			}
		}
	}
	if many(); len(on.objects) != newJobsEach {
		t.Errorf("%d jobs", len(on.objects))
	}
	s.now = func() time.Time { return now.Add(newJobPause) }
	if many(); len(on.objects) != newJobsEach+1 {
		t.Errorf("%d jobs a minute later", len(on.objects))
	}
}

// Looking again at a run that says nothing new asks the API server nothing, also if
// its pod has another version.
func TestNothingNewCostsNoCall(t *testing.T) {
	on := newServer()
	s := remembering(t, on)
	later := now
	s.now = func() time.Time { return later }
	for _, p := range []*corev1.Pod{nightly(t, "u-1", now.Add(-time.Hour)), ended(nightly(t, "u-2", now.Add(-time.Hour)), "7", "Completed", 0, now)} {
		looks(t, s, p, false)
		calls := on.calls
		for i := range 10 {
			later = later.Add(5 * time.Minute)
			p.ResourceVersion = strconv.Itoa(100 + i)
			looks(t, s, p, false)
		}
		if on.calls != calls {
			t.Errorf("%d calls about %s", on.calls-calls, p.Name)
		}
		later = later.Add(believe)
		delete(on.objects, "nightly")
		p.ResourceVersion = "200"
		if looks(t, s, p, false); on.objects["nightly"] == nil {
			t.Error("a driver that still exists does not bring its run back")
		}
	}
}

// A driver that opted out meanwhile is not looked at.
func TestRunThatOptedOut(t *testing.T) {
	on := newServer()
	s := remembering(t, on)
	s.Everywhere = false
	if again := looks(t, s, nightly(t, "u-1", now.Add(-time.Hour)), false); again != 0 || on.writes != 0 {
		t.Errorf("%d writes, again after %s", on.writes, again)
	}
}

// What others did to the object stays, and a status that cannot be read is started again.
func TestForeignSparkJob(t *testing.T) {
	on := newServer()
	object := newJob("nightly")
	object.SetLabels(map[string]string{"team": "sales"})
	object.Object["status"] = map[string]any{"runs": "none"}
	on.keep(object)
	looks(t, remembering(t, on), nightly(t, "u-1", now.Add(-time.Hour)), false)
	if on.objects["nightly"].GetLabels()["team"] != "sales" || len(on.nightly(t).Runs) != 1 {
		t.Errorf("%+v", on.objects["nightly"])
	}
}

// A driver that ends or is deleted is looked at soon, whether or not it is known any more.
func TestRunsAreSeen(t *testing.T) {
	on := newServer()
	s := remembering(t, on)
	p := nightly(t, "u-1", now.Add(-time.Hour))
	s.see(t, p)
	key := keyOf(mustPod(t, strip(p)))
	if found, gone := s.driverOf(key); found == nil || gone {
		t.Error("a known driver is not found")
	}
	killed := strip(ended(p, "7", "OOMKilled", 137, now))
	s.gone(killed, false)
	if found, gone := s.driverOf(key); found != killed || !gone {
		t.Error("a deleted driver is not found")
	}
	s.jobs.forgetDriver(p.UID, killed)
	if err := s.pods.at("spark").GetIndexer().Delete(killed); err != nil {
		t.Fatal(err)
	}
	if found, _ := s.driverOf(key); found != nil {
		t.Error("a driver that is written and gone is found")
	}
}

// A driver that is deleted at once after it failed has failed, and was not stopped.
func TestRunThatIsDeletedAtOnce(t *testing.T) {
	on := newServer()
	s, other := remembering(t, on), remembering(t, on)
	p := nightly(t, "u-1", now.Add(-time.Hour))
	s.see(t, p)
	failed := ended(p, "7", "Error", 1, now)
	s.see(t, failed)
	deleted := failed.DeepCopy()
	deleted.ResourceVersion, deleted.DeletionTimestamp = "8", &metav1.Time{Time: now}
	looks(t, other, deleted, true) // it has seen nothing else
	if state := on.nightly(t).Runs[0].State; state != sparkjob.Stopped {
		t.Errorf("without the end it is %s", state)
	}
	looks(t, s, deleted, true)
	looks(t, other, deleted, true)
	if r := on.nightly(t).Runs[0]; r.State != sparkjob.Failed || r.Reason != "DriverFailed" || len(r.Deaths) != 1 {
		t.Errorf("%+v", r)
	}
}

// A recorder without jobs does nothing for them.
func TestWithoutJobs(t *testing.T) {
	p := nightly(t, "u-1", now.Add(-time.Hour))
	s := recording(t, p)
	s.gone(strip(p), false)
	s.runJobs(t.Context(), func(func() error) { t.Error("something runs") })
}

// The record of a driver is part of its run: what its executors died of, and for how
// long they had run.
func TestRunHasTheRecord(t *testing.T) {
	on := newServer()
	s := remembering(t, on)
	p := nightly(t, "u-1", now.Add(-time.Hour))
	executor := died(t, "../oom/testdata/causes/oomkilled-executor.txtar")
	var record oom.Record
	record.Add(oom.Terminations(oom.Evidence{Pod: executor})...)
	for key, value := range record.Annotations(mustPod(t, p), oom.Plenty) {
		p.Annotations[key] = value
	}
	looks(t, s, p, false)
	r := on.nightly(t).Runs[0]
	end := executor.Status.ContainerStatuses[0].State.Terminated
	if lived := int64(end.FinishedAt.Sub(end.StartedAt.Time).Seconds()); len(r.Deaths) != 1 || r.Deaths[0].Cause != oom.OOMKilled || r.LostExecutorSeconds != lived || lived == 0 || r.Message == "" {
		t.Errorf("%+v, lived %d s", r, lived)
	}
}

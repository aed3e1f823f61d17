package recorder

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/lru"

	"github.com/spark-vitals/spark-vitals/driverui"
	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
)

// DriverUI is what a recorder asks drivers' UIs. [driverui.Client] implements it.
type DriverUI interface {
	Settings(context.Context, spark.Pod) (*spark.Settings, error)
	Peaks(ctx context.Context, driver spark.Pod, want func(executor int64) bool) (map[int64]driverui.Peaks, error)
}

const (
	// A driver is asked for measurements at most once in this time, however many of its
	// executors die.
	uiPause = 30 * time.Second
	// Attempts to learn a driver's settings, until the driver is looked at again.
	askAttempts = 5
	// A driver that does not answer is asked once in uiPause<<maxPauses in the end.
	maxPauses = 5
	// Drivers of which something is known, some 1 kB each.
	maxKnown = 16384
	// An application with more executors is not asked for measurements, because its answer
	// may be too long.
	maxExecutors = 10000
	// A death waits for so long for its measurements. An answer that comes later is for
	// later deaths.
	peaksTimeout = 700 * time.Millisecond
	// Questions for measurements at a time. If so many drivers are slow, deaths are not
	// measured.
	maxQuestions = 16
)

// knowledge is what drivers' UIs said. What a UI does not say, or says too late, is
// missing from a record, and nothing else.
type knowledge struct {
	ui      DriverUI // nil asks no driver
	mutex   sync.Mutex
	drivers *lru.Cache                                                 // by UID, of *known
	queue   workqueue.TypedRateLimitingInterface[types.NamespacedName] // of drivers to learn the settings of
}

// known is what one driver said.
type known struct {
	settings atomic.Pointer[spark.Settings]
	given    atomic.Int32 // how often it did not say its settings after askAttempts

	mutex    sync.Mutex // of what follows; not held while the driver is asked
	peaks    map[int64]driverui.Peaks
	asked    time.Time // when it was asked last
	answered time.Time // when it answered last
	failures int       // in a row
}

func newKnowledge(ui DriverUI) *knowledge {
	if ui == nil {
		return &knowledge{}
	}
	return &knowledge{ui: ui, drivers: lru.New(maxKnown), asking: make(chan struct{}, maxQuestions), queue: workqueue.NewTypedRateLimitingQueue(
		workqueue.NewTypedItemExponentialFailureRateLimiter[types.NamespacedName](2*time.Second, time.Minute))}
}

func (k *knowledge) of(driver types.UID) *known {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	if found, ok := k.drivers.Get(driver); ok {
		return found.(*known)
	}
	found := &known{}
	k.drivers.Add(driver, found)
	return found
}

// saw has a driver asked for its settings, if it runs and has not said them yet.
func (k *knowledge) saw(driver spark.Pod) {
	if status := driver.ContainerStatus(); k.ui != nil && status != nil && status.Ready && driver.DeletionTimestamp == nil && k.of(driver.UID).settings.Load() == nil {
		k.queue.Add(types.NamespacedName{Namespace: driver.Namespace, Name: driver.Name})
	}
}

// learn asks drivers for their settings until the context ends. pod returns a driver's
// pod, or nil if it is gone.
func (k *knowledge) learn(ctx context.Context, pod func(types.NamespacedName) *corev1.Pod) {
	if k.ui == nil {
		return
	}
	context.AfterFunc(ctx, k.queue.ShutDown)
	for {
		name, shutdown := k.queue.Get()
		if shutdown {
			return
		}
		if k.learned(ctx, pod(name)) || k.queue.NumRequeues(name) >= askAttempts {
			k.queue.Forget(name)
		} else {
			k.queue.AddRateLimited(name)
		}
		k.queue.Done(name)
	}
}

// learned asks a driver for its settings, and reports whether nothing is left to ask.
func (k *knowledge) learned(ctx context.Context, p *corev1.Pod) bool {
	if p == nil {
		return true
	}
	driver, err := spark.PodOf(p)
	if err != nil || driver.Role != spark.Driver || k.of(p.UID).settings.Load() != nil {
		return true
	}
	settings, err := k.ui.Settings(ctx, driver)
	if err == nil {
		k.of(p.UID).settings.Store(settings)
	}
	return err == nil
}

// measurements returns what a driver's executors measured, from the lowest of these numbers
// on, and when the driver said it. It asks a driver once in uiPause, and one that does
// not answer less and less often.
func (k *known) measurements(ctx context.Context, ui DriverUI, driver spark.Pod, least int64, now time.Time) (map[int64]driverui.Peaks, time.Time) {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	if now.Sub(k.asked) < uiPause<<min(k.failures, maxPauses) {
		return k.peaks, k.answered
	}
	k.asked = now
	answered := make(chan struct{})
	go func() { // a driver logs an error if nobody reads its answer to the end
		defer close(answered)
		peaks, err := ui.Peaks(context.WithoutCancel(ctx), driver, func(id int64) bool { return id >= least })
		k.answer(peaks, err, now)
	}()
	k.mutex.Unlock()
	select {
	case <-answered:
	case <-time.After(peaksTimeout):
	}
	k.mutex.Lock()
	return k.peaks, k.answered
}

// answer keeps what a driver answered to a question.
func (k *known) answer(peaks map[int64]driverui.Peaks, err error, asked time.Time) {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	if err != nil {
		k.failures++
		return
	}
	k.failures, k.peaks, k.answered = 0, peaks, asked
}

// describe adds what a driver's UI said to new facts of its application, which has so
// many executors.
func (k *knowledge) describe(ctx context.Context, driver spark.Pod, facts []*fact, executors int, now time.Time) {
	if k.ui == nil || driver.Pod == nil {
		return
	}
	known, least := k.of(driver.UID), int64(0)
	settings := known.settings.Load()
	for _, f := range facts {
		f.SetSettings(settings)
		if id := f.MeasuredExecutor(); id > 0 && (least == 0 || id < least) {
			least = id
		}
	}
	if _, ended := driver.End(); ended || least == 0 || executors > maxExecutors {
		return
	}
	peaks, answered := known.measurements(ctx, k.ui, driver, least, now)
	for _, f := range facts {
		if p, ok := peaks[f.MeasuredExecutor()]; ok || answered.After(f.At.Time) {
			f.SetPeaks(measured(p), settings, answered)
		}
	}
}

// measured returns measurements in MiB.
func measured(p driverui.Peaks) oom.Peaks {
	return oom.Peaks{
		HeapMiB: p.Heap >> 20, MetaspaceMiB: p.OffHeap >> 20, DirectMiB: (p.Direct + p.Mapped) >> 20, OffHeapMiB: p.UnifiedOffHeap >> 20,
		JVMMiB: p.JVM >> 20, PythonMiB: p.Python >> 20, OtherMiB: p.Other >> 20,
	}
}

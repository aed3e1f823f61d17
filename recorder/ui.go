package recorder

import (
	"context"
	"slices"
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
	Barrier(ctx context.Context, driver spark.Pod, known []driverui.Job) (driverui.Barrier, error)
	Peaks(ctx context.Context, driver spark.Pod, want func(executor int64) bool) (driverui.Executors, error)
	EachExecutor(ctx context.Context, driver spark.Pod, do func(*driverui.Executor)) error
}

const (
	// uiPause is how long a driver is not asked again for measurements, however many of
	// its executors die. If it does not answer, the pause doubles up to maxPauses times.
	uiPause, maxPauses = 30 * time.Second, 5
	// settingsPause is the first pause between attempts to learn a driver's settings, and
	// settingsAttempts how many there are until the driver is looked at again.
	settingsPause, settingsAttempts = 2 * time.Second, 5
	// maxKnown is how many drivers' settings are kept, some 500 bytes each, and maxAnswers
	// how many drivers' measurements, some 25 kB each.
	maxKnown, maxAnswers = 16384, 1024
	// maxExecutors is how many executors an application has at most that is asked for
	// measurements, because the answer of a larger one may be too long.
	maxExecutors = 10000
	// peaksTimeout is how long a death waits for its measurements. An answer that comes
	// later is for later deaths.
	peaksTimeout = 400 * time.Millisecond
	// maxQuestions is how many questions about deaths are asked at a time, and
	// maxQuestionsEach how many of drivers in one namespace. If all drivers are slow, deaths
	// of other applications are not measured.
	maxQuestions, maxQuestionsEach = 32, 8
)

// knowledge is what drivers' UIs said. What a UI does not say, or says too late, is
// missing from a record, and nothing else.
type knowledge struct {
	ui      DriverUI // nil asks no driver
	mutex   sync.Mutex
	drivers *lru.Cache // by UID, of *known
	answers *lru.Cache // by UID, of *answer
	asking  asking
	queue   workqueue.TypedDelayingInterface[types.NamespacedName] // of drivers whose settings are to be learned
}

// known is what is known of one driver.
type known struct {
	settings atomic.Pointer[spark.Settings]

	mutex    sync.Mutex // of what follows
	attempts int        // to learn the settings
	due      time.Time  // of the next attempt
	plan     planQuestion
}

// done is closed when a question has an answer. It is nil if none was asked.
type done <-chan struct{}

// within waits for an answer until the context ends.
func (d done) within(ctx context.Context) {
	if d == nil {
		return
	}
	select {
	case <-d:
	case <-ctx.Done():
	}
}

// answer is what a driver said about its executors.
type answer struct {
	mutex     sync.Mutex // not held while the driver is asked
	executors driverui.Executors
	asked     time.Time // when it was asked last
	answered  time.Time // when it was asked for executors
	failures  int       // in a row
}

func newKnowledge(ui DriverUI) *knowledge {
	if ui == nil {
		return &knowledge{}
	}
	return &knowledge{
		ui: ui, drivers: lru.New(maxKnown), answers: lru.New(maxAnswers), asking: asking{of: map[string]int{}},
		queue: workqueue.NewTypedDelayingQueue[types.NamespacedName](),
	}
}

// of returns what a cache has of a driver, or a new entry.
func of[T any](k *knowledge, cache *lru.Cache, driver types.UID) *T {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	if found, ok := cache.Get(driver); ok {
		return found.(*T)
	}
	made := new(T)
	cache.Add(driver, made)
	return made
}

// knows returns what is known of a driver, or nil. It adds no entry: the UID may be made up.
func (k *knowledge) knows(driver types.UID) *known {
	if k.ui == nil {
		return nil
	}
	k.mutex.Lock()
	defer k.mutex.Unlock()
	found, _ := k.drivers.Get(driver)
	known, _ := found.(*known)
	return known
}

// saw has a driver asked for its settings, if it runs and has not said them yet.
func (k *knowledge) saw(driver spark.Pod, now time.Time) {
	status := driver.ContainerStatus()
	if k.ui == nil || status == nil || !status.Ready || driver.DeletionTimestamp != nil {
		return
	}
	known := of[known](k, k.drivers, driver.UID)
	known.mutex.Lock()
	defer known.mutex.Unlock()
	if known.settings.Load() == nil && !now.Before(known.due) {
		known.attempts, known.due = 0, now.Add(uiPause)
		k.queue.Add(types.NamespacedName{Namespace: driver.Namespace, Name: driver.Name})
	}
}

// learn asks drivers for their settings until the context ends. pod returns a driver's
// pod, or nil if it is gone. A question that is under way is not ended, because a driver
// logs an error if nobody reads its answer to the end.
func (k *knowledge) learn(ctx context.Context, pod func(types.NamespacedName) *corev1.Pod, now func() time.Time) {
	if k.ui == nil {
		return
	}
	context.AfterFunc(ctx, k.queue.ShutDown)
	for {
		name, shutdown := k.queue.Get()
		if shutdown {
			return
		}
		if again := k.learnFrom(context.WithoutCancel(ctx), pod(name), now()); again > 0 {
			k.queue.AddAfter(name, again)
		}
		k.queue.Done(name)
	}
}

// learnFrom asks a driver for its settings, and returns after which pause to ask again,
// or 0.
func (k *knowledge) learnFrom(ctx context.Context, p *corev1.Pod, now time.Time) (again time.Duration) {
	if p == nil {
		return 0
	}
	driver, err := spark.PodOf(p)
	known := of[known](k, k.drivers, p.UID)
	if err != nil || driver.Role != spark.Driver || known.settings.Load() != nil {
		return 0
	}
	settings, err := k.ui.Settings(ctx, driver)
	if err == nil {
		known.settings.Store(settings)
		return 0
	}
	known.mutex.Lock()
	defer known.mutex.Unlock()
	known.attempts++
	again = settingsPause << known.attempts
	known.due = now.Add(max(again, uiPause))
	if known.attempts >= settingsAttempts {
		return 0
	}
	return again
}

// describe adds what a driver's UI said to new facts of its application, which has so
// many executors. A driver is asked only if it has said its settings, so one that cannot
// be reached delays no death.
func (k *knowledge) describe(ctx context.Context, driver spark.Pod, facts []*fact, executors int, now time.Time) {
	if driver.Pod == nil {
		return
	}
	known := k.knows(driver.UID)
	if known == nil || known.settings.Load() == nil {
		return
	}
	asked := map[int64]bool{}
	for _, f := range facts {
		if id := f.MeasuredExecutor(); id > 0 {
			asked[id] = true
		}
	}
	var measured *answer
	if _, ended := driver.End(); !ended {
		if len(asked) > 0 && executors <= maxExecutors {
			measured = of[answer](k, k.answers, driver.UID)
		}
		k.ask(ctx, driver, known, measured, facts, asked, now)
	}
	settings := known.settings.Load()
	for _, f := range facts {
		f.SetSettings(settings, driver.Language())
		if id := f.MeasuredExecutor(); id > 0 && measured != nil {
			found, answered := measured.latest()
			if p, ok := found.Of[id]; ok {
				f.SetPeaks(peaksOf(p, found.MaxHeap), settings, answered)
			}
		}
	}
}

// ask asks a driver what is due because of new facts, all at once, and waits some time for
// the answers. The program builds resource profiles after the driver was asked for its
// settings.
func (k *knowledge) ask(ctx context.Context, driver spark.Pod, known *known, measured *answer, facts []*fact, executors map[int64]bool, now time.Time) {
	var settings, plan, peaks done
	switch old := known.settings.Load(); {
	case slices.ContainsFunc(facts, (*fact).mayBeRemedied):
		plan = k.askForPlan(ctx, driver.UID, seenLast(facts), func() spark.Pod { return driver }, now)
	case slices.ContainsFunc(facts, func(f *fact) bool { return !f.IsProfileOf(old) }):
		settings = k.learnAgain(ctx, driver, known, now)
	}
	if measured != nil {
		peaks = k.askForPeaks(ctx, driver, measured, executors, now)
	}
	ctx, cancel := context.WithTimeout(ctx, planTimeout)
	defer cancel()
	soon, cancel := context.WithTimeout(ctx, peaksTimeout)
	defer cancel()
	settings.within(soon)
	peaks.within(soon)
	plan.within(ctx)
}

// settingsOf returns the settings that a driver said, or nil.
func (k *knowledge) settingsOf(driver types.UID) *spark.Settings {
	known := k.knows(driver)
	if known == nil {
		return nil
	}
	return known.settings.Load()
}

// isDynamic reports whether a driver said that its executors come and go with the work.
func (k *knowledge) isDynamic(driver types.UID) bool {
	settings := k.settingsOf(driver)
	return settings != nil && settings.Dynamic
}

// learnAgain asks a driver for its settings once more, at most once in uiPause.
func (k *knowledge) learnAgain(ctx context.Context, driver spark.Pod, known *known, now time.Time) done {
	known.mutex.Lock()
	defer known.mutex.Unlock()
	if now.Before(known.due) {
		return nil
	}
	known.due = now.Add(uiPause)
	return k.asking.inBackground(driver.Namespace, func() {
		if s, err := k.ui.Settings(context.WithoutCancel(ctx), driver); err == nil {
			known.settings.Store(s)
		}
	})
}

// asking counts the questions that are asked, by namespace.
type asking struct {
	mutex sync.Mutex
	all   int
	of    map[string]int
}

// begin takes a place for a question, if one is free.
func (a *asking) begin(namespace string) bool {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	if a.all >= maxQuestions || a.of[namespace] >= maxQuestionsEach {
		return false
	}
	a.all++
	a.of[namespace]++
	return true
}

func (a *asking) end(namespace string) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.all--
	if a.of[namespace]--; a.of[namespace] == 0 {
		delete(a.of, namespace)
	}
}

// inBackground asks a driver of a namespace, if a place is free. The question goes on
// whoever waits for it: see learn.
func (a *asking) inBackground(namespace string, question func()) done {
	if !a.begin(namespace) {
		return nil
	}
	answered := make(chan struct{})
	go func() {
		defer func() { a.end(namespace); close(answered) }()
		question()
	}()
	return answered
}

// askForPeaks asks a driver what its executors measured. It asks a driver once in uiPause,
// and one that does not answer less and less often.
func (k *knowledge) askForPeaks(ctx context.Context, driver spark.Pod, a *answer, executors map[int64]bool, now time.Time) done {
	if !a.isDue(now) {
		return nil
	}
	return k.asking.inBackground(driver.Namespace, func() {
		found, err := k.ui.Peaks(context.WithoutCancel(ctx), driver, func(id int64) bool { return executors[id] })
		a.says(found, err, now)
	})
}

// latest returns what a driver's executors measured, and when the driver was asked for it.
func (a *answer) latest() (driverui.Executors, time.Time) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	return a.executors, a.answered
}

// isDue reports whether the driver is to be asked now, and notes that it is.
func (a *answer) isDue(now time.Time) bool {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	if now.Sub(a.asked) < uiPause<<min(a.failures, maxPauses) {
		return false
	}
	a.asked = now
	return true
}

// says notes what the driver answered when it was asked at a time.
func (a *answer) says(found driverui.Executors, err error, asked time.Time) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	if err != nil {
		a.failures++
		return
	}
	a.failures, a.executors, a.answered = 0, found, asked
}

// peaksOf returns measurements in MiB. maxHeap is the highest heap of all executors.
func peaksOf(p driverui.Peaks, maxHeap int64) oom.Peaks {
	return oom.Peaks{
		HeapMiB: p.Heap >> 20, MaxHeapMiB: maxHeap >> 20, MetaspaceMiB: p.OffHeap >> 20, DirectMiB: (p.Direct + p.Mapped) >> 20, OffHeapMiB: p.UnifiedOffHeap >> 20,
		JVMMiB: p.JVM >> 20, PythonMiB: p.Python >> 20, OtherMiB: p.Other >> 20,
	}
}

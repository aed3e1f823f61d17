package stall

import (
	"fmt"
	"strings"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/internal/bounded"
)

// Thread is a thread of a driver, as its UI shows it.
type Thread struct {
	ID    int64
	Name  string
	State string // as in java.lang.Thread.State
	// Stack begins with the frame that runs: "java.lang.Thread.sleep(Thread.java:10)".
	Stack []string
	// BlockedBy is the ID of the thread that owns the lock for which this one waits, or 0.
	BlockedBy int64
}

// threads are those of one driver.
type threads []Thread

// LookAt returns what a driver's threads do. tasks is how many tasks run, or -1 if that
// is not known.
func LookAt(all []Thread, tasks int64) annotations.Threads {
	t := threads(all)
	deadlock, deadlocked := t.deadlock()
	if deadlocked && deadlock.Main {
		return deadlock
	}
	if found, ok := t.scheduler(); ok {
		return found
	}
	if found, ok := t.works(tasks); ok {
		return found
	}
	if deadlocked {
		return deadlock
	}
	if found, ok := t.job(); ok && tasks == 0 {
		return found
	}
	if found, ok := t.serves(); ok {
		return found
	}
	found, _ := t.main()
	return found
}

// Works reports whether these are threads of a driver that works, or that does nothing
// because nobody asks it to.
func Works(t *annotations.Threads) bool {
	return t.Do == annotations.ThreadsWork || t.Do == annotations.ThreadsServe
}

func (t threads) byID(id int64) *Thread {
	for i := range t {
		if t[i].ID == id && id != 0 {
			return &t[i]
		}
	}
	return nil
}

func (t threads) named(name string) *Thread {
	for i := range t {
		if t[i].Name == name {
			return &t[i]
		}
	}
	return nil
}

// deadlock finds a cycle of threads that wait for each other's locks.
func (t threads) deadlock() (annotations.Threads, bool) {
	for i := range t {
		first := &t[i]
		next := t.byID(first.BlockedBy)
		for range t {
			if next == nil || next == first {
				break
			}
			next = t.byID(next.BlockedBy)
		}
		if next != first {
			continue
		}
		other := t.byID(first.BlockedBy)
		return annotations.Threads{Do: annotations.ThreadsDeadlocked, Thread: printable(first.Name), At: first.at(), Other: printable(other.Name), OtherAt: other.at(), Main: t.leads(t.named(mainThread), first)}, true
	}
	return annotations.Threads{}, false
}

// leads reports whether one thread waits for a lock that another owns, or waits for one
// in turn.
func (t threads) leads(from, to *Thread) bool {
	for range t {
		if from == nil || from == to {
			return from != nil
		}
		from = t.byID(from.BlockedBy)
	}
	return false
}

const (
	mainThread = "main"
	scheduler  = "dag-scheduler-event-loop"
)

// whileAlive are threads that a SparkContext starts before and after the scheduler's,
// and stops after it. They were there in every healthy driver of 3.5.9, 4.1.4 and 4.3.0.
var whileAlive = []string{"heartbeat-receiver-event-loop-thread", "driver-heartbeater"}

// scheduler finds that the thread that plans jobs is gone, and the SparkContext is
// not.
func (t threads) scheduler() (annotations.Threads, bool) {
	for _, name := range whileAlive {
		if t.named(name) == nil {
			return annotations.Threads{}, false
		}
	}
	if t.named(scheduler) != nil {
		return annotations.Threads{}, false
	}
	found := annotations.Threads{Do: annotations.ThreadsNoScheduler, Thread: scheduler}
	if main := t.named(mainThread); main != nil {
		found.Other, found.OtherAt = mainThread, main.at()
	}
	return found, true
}

// works finds that something goes on: a task, or a thread of the program.
func (t threads) works(tasks int64) (annotations.Threads, bool) {
	if tasks > 0 {
		return annotations.Threads{Do: annotations.ThreadsWork}, true
	}
	for i := range t {
		if one := &t[i]; one.isProgram() && one.runs() {
			return annotations.Threads{Do: annotations.ThreadsWork, Thread: printable(one.Name), At: one.at()}, true
		}
	}
	return annotations.Threads{}, false
}

// servers are threads, and frames of the main thread, of programs that do nothing while
// their users ask for nothing.
var servers = struct{ threads, frames []string }{
	[]string{"ThriftBinaryCLIService", "HiveServer2-"},
	[]string{"org.apache.spark.sql.connect.service.SparkConnectServer", "org.apache.kyuubi.engine.", "jline.internal.NonBlockingInputStream", "org.jline."},
}

// serves finds a program that may wait for its users. A stream is none: it logs each
// trigger.
func (t threads) serves() (annotations.Threads, bool) {
	for i := range t {
		if begins(t[i].Name, servers.threads...) {
			return annotations.Threads{Do: annotations.ThreadsServe, Thread: printable(t[i].Name)}, true
		}
	}
	if main := t.named(mainThread); main != nil {
		for _, frame := range main.Stack {
			if begins(plain(frame), servers.frames...) {
				return annotations.Threads{Do: annotations.ThreadsServe, Thread: mainThread, At: plain(frame)}, true
			}
		}
	}
	return annotations.Threads{}, false
}

// job finds that the program waits for a job of Spark.
func (t threads) job() (annotations.Threads, bool) {
	for i := range t {
		one := &t[i]
		if !one.isProgram() {
			continue
		}
		for _, frame := range one.Stack {
			if strings.Contains(frame, "org.apache.spark.scheduler.DAGScheduler.runJob") {
				return annotations.Threads{Do: annotations.ThreadsWaitForJob, Thread: printable(one.Name), At: one.at()}, true
			}
		}
	}
	return annotations.Threads{}, false
}

// main finds what the main thread waits for.
func (t threads) main() (annotations.Threads, bool) {
	main := t.named(mainThread)
	if main == nil || len(main.Stack) == 0 {
		return annotations.Threads{}, false
	}
	found := annotations.Threads{Do: annotations.ThreadsWait, Thread: printable(main.Name), At: main.at()}
	if owner := t.byID(main.BlockedBy); owner != nil {
		found.Do, found.Other, found.OtherAt = annotations.ThreadsWaitForLock, printable(owner.Name), owner.at()
	}
	return found, true
}

// sparks are the beginnings of the names of threads that Spark, its libraries and the
// JVM start for themselves.
var sparks = []string{
	"SparkUI-", "rpc-", "shuffle-", "dispatcher-", "driver-heartbeater", "driver-revive-thread", "heartbeat-receiver-", "netty-",
	"spark-listener-group-", "element-tracking-store-worker", "context-cleaner-", "Spark Context Cleaner", "task-", "map-output-",
	"block-manager-", "RemoteBlock-", "kubernetes-executor-", "OkHttp", "vert.x-", "pool-kubernetes", "files-client-", "process reaper",
	"Common-Cleaner", "Finalizer", "Reference Handler", "Signal Dispatcher", "Notification Thread", "Attach Listener", "executor-",
	scheduler, "SparkConnectServer", "log4j", "Log4j2", "Keep-Alive", "JVMCI", "C1 Compiler", "C2 Compiler",
}

// isProgram reports whether it is a thread of the program and not of Spark.
func (t *Thread) isProgram() bool {
	for _, name := range sparks {
		if strings.HasPrefix(t.Name, name) {
			return false
		}
	}
	return true
}

// waiting are methods of the JDK in which a thread waits although its state is RUNNABLE.
var waiting = []string{
	"EPoll.wait", "epollWait", "epollWait0", "keventWait", "kevent", "receive0", "Net.accept", "Net.poll", "accept0", "read0", "readBytes", "socketRead0", "socketAccept",
	"waitForProcessExit0", "waitForReferencePendingList", "dumpThreads0", "park",
}

// runs reports whether the thread computes.
func (t *Thread) runs() bool {
	if t.State != "RUNNABLE" || len(t.Stack) == 0 {
		return false
	}
	method, _, _ := strings.Cut(t.Stack[0], "(")
	for _, wait := range waiting {
		if strings.HasSuffix(method, "."+wait) || begins(plain(method), "java.net.", "sun.net.", "sun.nio.ch.") {
			return false
		}
	}
	for _, frame := range t.Stack { // a thread of the JDK alone does no work
		if !ofJDK(plain(frame)) {
			return true
		}
	}
	return false
}

// at returns the frame of the program in which the thread is, or else Spark's, or else
// the JDK's.
func (t *Thread) at() string {
	for _, not := range []func(string) bool{ofLibrary, ofJDK, func(string) bool { return false }} {
		for _, frame := range t.Stack {
			if frame = plain(frame); !not(frame) {
				return frame
			}
		}
	}
	return ""
}

// plain returns a frame without its module or class loader, and without locks:
// "java.base@17.0.15/java.lang.Object.wait(Native Method) => holding Monitor(...)".
func plain(frame string) string {
	frame, _, _ = strings.Cut(printable(frame), " => ")
	frame = strings.TrimPrefix(frame, "app//")
	if module, rest, found := strings.Cut(frame, "/"); found && strings.Contains(module, "@") {
		return rest
	}
	return frame
}

// printable returns the beginning of a foreign text, without line breaks and the like.
func printable(text string) string { return bounded.Cut(bounded.Printable(text), maxText) }

// maxText limits the name of a thread or frame, in bytes.
const maxText = 120

func ofJDK(frame string) bool { return begins(frame, "java.", "javax.", "jdk.", "sun.", "com.sun.") }

// ofLibrary reports whether a frame is neither of the program nor of a library that
// this package does not know.
func ofLibrary(frame string) bool {
	return ofJDK(frame) || strings.Contains(frame, "$$Lambda") || begins(frame, "scala.", "org.apache.spark.", "org.sparkproject.", "io.netty.", "org.apache.hadoop.", "py4j.", "org.apache.kyuubi.", "org.apache.hive.")
}

func begins(text string, with ...string) bool {
	for _, prefix := range with {
		if strings.HasPrefix(text, prefix) {
			return true
		}
	}
	return false
}

// threadsConfidence returns how sure it is that a silent driver with these threads hangs.
func threadsConfidence(t *annotations.Threads) annotations.Confidence {
	switch {
	case t == nil:
	case t.Do == annotations.ThreadsNoScheduler, t.Do == annotations.ThreadsDeadlocked && t.Main:
		return annotations.Sure
	case t.Do == annotations.ThreadsDeadlocked:
		return annotations.Likely
	}
	return annotations.Unsure
}

// describeThreads returns a sentence, or "" if nothing is known or the driver works.
func describeThreads(t *annotations.Threads) string {
	if t == nil {
		return ""
	}
	switch t.Do {
	case annotations.ThreadsDeadlocked:
		return fmt.Sprintf("Its threads %q and %q wait for each other's locks (deadlock): at %s and at %s.", t.Thread, t.Other, t.At, t.OtherAt)
	case annotations.ThreadsNoScheduler:
		text := fmt.Sprintf("Its thread %s is gone, and Spark runs no job without it.", t.Thread)
		if t.Other != "" {
			text += fmt.Sprintf(" Its thread %q is at %s.", t.Other, t.OtherAt)
		}
		return text
	case annotations.ThreadsWaitForJob:
		return fmt.Sprintf("Its thread %q waits for a job of Spark at %s, and no task of it runs. Check whether the application has executors.", t.Thread, t.At)
	case annotations.ThreadsWaitForLock:
		return fmt.Sprintf("Its thread %q waits at %s for a lock that thread %q holds, which is at %s.", t.Thread, t.At, t.Other, t.OtherAt)
	case annotations.ThreadsWork, annotations.ThreadsServe:
	case annotations.ThreadsWait:
		if strings.Contains(t.At, ".PythonRunner") {
			return "Its JVM waits for its Python program. What that does is not visible from the JVM."
		}
		return fmt.Sprintf("Its thread %q waits at %s.", t.Thread, t.At)
	}
	return ""
}

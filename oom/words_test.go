package oom_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
)

// Only an error that more heap cures is called heap. The words are those of Java 8 to
// 25, of Spark and of libraries.
func TestWordsOfOutOfMemoryErrors(t *testing.T) {
	for words, want := range map[string]oom.Cause{
		": Java heap space": oom.HeapOOM,
		": Java heap space: failed reallocation of scalar replaced objects":                                         oom.HeapOOM,
		": GC overhead limit exceeded":                                                                              oom.HeapOOM,
		": Not enough memory to build and broadcast the table to all worker nodes. As a workaround, you can either": oom.HeapOOM,
		"": oom.JavaOOM,
		": Required array length 2147483639 + 798 is too large":                    oom.JavaOOM,
		": Required length exceeds implementation limit":                           oom.JavaOOM,
		": Requested array size exceeds VM limit":                                  oom.JavaOOM,
		": UTF16 String size is 1207959552, should be less than 1073741823":        oom.JavaOOM,
		": Overflow: String length out of range":                                   oom.JavaOOM,
		": Map failed":                                                             oom.JavaOOM,
		": Metaspace":                                                              oom.JavaOOM,
		": Compressed class space":                                                 oom.JavaOOM,
		": request 65536 bytes for Chunk::new. Out of swap space?":                 oom.JavaOOM,
		": Direct buffer memory":                                                   oom.JavaOOM,
		": Cannot reserve 65536 bytes of direct buffer memory":                     oom.JavaOOM,
		": unable to create native thread: possibly out of memory":                 oom.JavaOOM,
		": Cannot allocate 4096 bytes; the Java heap space is not what lacks":      oom.JavaOOM,
		": failed to allocate 16777216 byte(s) of direct memory (used: 1, max: 2)": oom.JavaOOM,
	} {
		text := "Exception in thread \"main\" java.lang.OutOfMemoryError" + words + "\n\tat com.example.Main.main(Main.java:7)\n"
		if got := causesOf(t, spark.Driver, 1, text); got != string(want) {
			t.Errorf("%q is %s, want %s", words, got, want)
		}
	}
}

// A driver reports its executors as it reports itself. What stands last before the
// words says which of them ran out of memory.
func TestWhoseOutOfMemoryError(t *testing.T) {
	const (
		heap  = "java.lang.OutOfMemoryError: Java heap space\n"
		lost  = "Job aborted due to stage failure: Task 0 in stage 0.0 failed 4 times, most recent failure: Lost task 0.3 in stage 0.0 (TID 3) (10.0.0.7 executor 4): "
		own   = "Job aborted due to stage failure: Task serialization failed: "
		frame = "\tat org.apache.spark.executor.Executor$TaskRunner.run(Executor.scala:623)\n"
	)
	for text, want := range map[string]string{
		heap:                "HeapOOM",
		lost + heap:         "Failed",
		lost + heap + frame: "Failed",
		heap + frame:        "Failed",
		own + heap:          "HeapOOM",
		// A lost task that was survived, and the end of the driver's own thread.
		"WARN TaskSetManager: Lost task 0.3 in stage 0.0 (TID 3) (10.0.0.7 executor 4): FetchFailed\nException in thread \"main\" " + heap:                                                    "HeapOOM",
		"WARN TaskSetManager: Lost task 0.3 in stage 0.0 (TID 3) (10.0.0.7 executor 4): FetchFailed\nERROR SparkUncaughtExceptionHandler: Uncaught exception in thread Thread[main]\n" + heap: "HeapOOM",
		// In local mode the driver is its own executor.
		"Lost task 0.0 in stage 0.0 (TID 0) (app-driver executor driver): " + heap + frame: "HeapOOM",
		own + heap + heap:        "HeapOOM",
		lost + heap + own + heap: "HeapOOM",
		own + heap + lost + heap: "Failed",
		own + heap + "\nDriver stacktrace:\n\tat org.apache.spark.scheduler.DAGScheduler.failJobAndIndependentStages(DAGScheduler.scala:2898)\n": "HeapOOM",
		lost + "java.io.IOException\nTerminating due to " + heap:                                                                                 "HeapOOM",
	} {
		if got := causesOf(t, spark.Driver, 1, text); got != want {
			t.Errorf("%q is %s, want %s", text, got, want)
		}
	}
}

// What ends a JVM has its exit code, and nothing else has it.
func TestOptionsThatEndAJVM(t *testing.T) {
	for _, c := range []struct {
		option string
		code   int32
		want   string
	}{
		{"-XX:OnOutOfMemoryError=kill -9 %p", 137, "Killed"},
		{"-XX:OnOutOfMemoryError=\"kill -9 %p\"", 137, "Killed"},
		{"-XX:OnOutOfMemoryError='/bin/kill -s KILL %p'", 137, "Killed"},
		{"-XX:OnOutOfMemoryError=jmap -dump:file=/tmp/x %p; kill -KILL %p", 137, "Killed"},
		{"-XX:OnOutOfMemoryError=sh -c 'pkill -SIGKILL java'", 137, "Killed"},
		{"-XX:OnOutOfMemoryError=kill %p", 143, "Killed"},
		{"-XX:OnOutOfMemoryError=kill -15 %p", 143, "Killed"},
		{"-XX:OnOutOfMemoryError=kill -9 %p", 143, ""}, // 143 is not what it sends
		{"-XX:OnOutOfMemoryError=kill -3 %p", 143, ""}, // a thread dump
		{"-XX:OnOutOfMemoryError=/opt/notify.sh %p", 143, ""},
		{"-Dkill=true", 143, ""},
		{"-XX:+ExitOnOutOfMemoryError", 3, "HeapOOM"},
		{"-XX:+UseG1GC", 3, ""},
		{"-XX:+CrashOnOutOfMemoryError", 134, "Killed"},
		{"-XX:-ExitOnOutOfMemoryError", 3, ""},
	} {
		p := ended(t, spark.Executor, c.code, "")
		p.Spec.Containers[0].Env = append(p.Spec.Containers[0].Env, corev1.EnvVar{Name: "SPARK_JAVA_OPT_99", Value: c.option})
		if got := causesOfPod(p); got != c.want {
			t.Errorf("%s and %d is %q, want %q", c.option, c.code, got, c.want)
		}
		p.Spec.Containers[0].Env[len(p.Spec.Containers[0].Env)-1].Value = oom.EndsItself(c.option)
		if got := causesOfPod(p); got != c.want {
			t.Errorf("%s kept as %s and %d is %q, want %q", c.option, oom.EndsItself(c.option), c.code, got, c.want)
		}
	}
	if kept := oom.EndsItself(`-Dpassword=x -XX:OnOutOfMemoryError="kill -9 %p" -Dtoken=y`); strings.Contains(kept, "-D") {
		t.Error("options that are not read are kept:", kept)
	}
}

// The kept part of a text leads to the same cause as the text, and is short for any
// text.
func FuzzWords(f *testing.F) {
	f.Add("Aborting due to java.lang.OutOfMemoryError: Java heap space\n#\n# A fatal error has been detected by the Java Runtime Environment:\n#\n#  Internal Error (debug.cpp:362), pid=1, tid=2\n#  fatal error: OutOfMemory encountered: Java heap space\n")
	f.Add("# java.lang.OutOfMemoryError: Metaspace\n# -XX:OnOutOfMemoryError=\"kill -9 %p\"\n#   Executing /bin/sh -c \"kill -9 21\"...\n")
	f.Add("# Problematic frame:\n# V  [libjvm.so+0x5a0f4e]\n#\n# /tmp/hs_err_pid1.log\n")
	f.Add("Lost task 1 executor 4): java.lang.OutOfMemoryError\n\tat a.b(C.java:1)\nTask serialization failed: java.lang.OutOfMemoryError\n at b")
	f.Add("# Native memory allocation (mmap) failed to map 65536 bytes for committing reserved memory.\n")
	f.Add("Total size of serialized results of 2 tasks (1 MiB) is bigger than spark.driver.maxResultSize (1 MiB)\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, role := range []spark.Role{spark.Driver, spark.Executor} {
			words := oom.WordsOf(role, text)
			kept := words.String()
			if len(kept) > 2<<10 {
				t.Errorf("%d bytes are kept", len(kept))
			}
			if again := oom.WordsOf(role, kept); again != words {
				t.Errorf("%+v\n%+v\n%q", words, again, kept)
			}
		}
	})
}

// A quote ends with a whole word.
func TestQuotesEndWithAWord(t *testing.T) {
	p := ended(t, spark.Executor, 137, "")
	p.Status.Reason, p.Status.Message = "Evicted", strings.Repeat("something ", 30)
	for range 12 {
		p.Status.Message = "x" + p.Status.Message
		for _, d := range oom.Terminations(oom.Evidence{Pod: p}) {
			if !strings.HasSuffix(d.Said, " something\u2026") || len(d.Said) > 200 {
				t.Error(d.Said)
			}
		}
	}
}

// ended returns a pod of which the kubelet reports nothing else.
func ended(t *testing.T, role spark.Role, code int32, message string) *corev1.Pod {
	t.Helper()
	pod := capturedPod(t, "spark-3.5.9/"+string(role))
	p := pod.DeepCopy()
	p.Status = corev1.PodStatus{Phase: corev1.PodFailed, ContainerStatuses: []corev1.ContainerStatus{{
		Name: pod.Container().Name, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Reason: "Error", Message: message}},
	}}}
	return p
}

func causesOf(t *testing.T, role spark.Role, code int32, message string) string {
	t.Helper()
	return causesOfPod(ended(t, role, code, message))
}

func causesOfPod(p *corev1.Pod) string {
	var all []string
	for _, d := range oom.Terminations(oom.Evidence{Pod: p}) {
		all = append(all, string(d.Cause))
	}
	return strings.Join(all, " ")
}

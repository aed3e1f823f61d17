package oom

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spark-vitals/spark-vitals/spark"
)

// settings say how the user of an application sets Spark's configuration.
type settings struct {
	role      spark.Role
	submitter spark.Submitter
	profile   string // of executors that the program describes itself
}

// resourceSettings are what a resource profile can hold, and what kubeflow's
// SparkApplication has fields of its own for, which override its sparkConf
// (api/v1beta2, SparkPodSpec).
var resourceSettings = []string{"memory", "memoryOverhead", "cores"}

// name of a setting of the role: "memoryOverhead" is spark.executor.memoryOverhead.
func (s settings) name(setting string) string {
	full := "spark." + string(s.role) + "." + setting
	switch {
	case s.profile != "" && slices.Contains(resourceSettings, setting):
		return setting
	case s.submitter == spark.Kubeflow && slices.Contains(resourceSettings, setting):
		return "spec." + string(s.role) + "." + setting
	case s.submitter == spark.Kubeflow || s.submitter == spark.ApacheOperator:
		return fmt.Sprintf("spec.sparkConf[%s]", full)
	}
	return full
}

// where says where to set it, in a sentence, "" where nothing needs to be said.
func (s settings) where() string {
	switch {
	case s.profile != "":
		return " That is in resource profile " + s.profile + ", which the program builds (ResourceProfileBuilder)."
	case s.submitter == spark.Kyuubi:
		return " Set it in the connection that starts the engine or in kyuubi-defaults.conf, and end the running engine; SET in a session comes too late."
	case s.submitter == spark.Livy:
		return " Set it in conf of the request that starts the session or batch."
	}
	return ""
}

// memory writes MiB as Spark's settings take them: "2500m", "2g".
func memory(mib int64) string {
	if mib%1024 == 0 {
		return fmt.Sprintf("%dg", mib/1024)
	}
	return fmt.Sprintf("%dm", mib)
}

// moreOverhead is half as much again, in whole hundreds of MiB.
func moreOverhead(mib int64) int64 { return roundUp(mib+max(mib/2, 1), 100) }

// moreHeap is twice as much, and from 8 GiB on half as much again, in whole GiB.
func moreHeap(mib int64) int64 {
	if mib < 8<<10 {
		return roundUp(2*mib, 1024)
	}
	return roundUp(mib+mib/2, 1024)
}

func roundUp(n, to int64) int64 { return (n + to - 1) / to * to }

// javaLimits are OutOfMemoryErrors that are not about the heap, in HotSpot's
// words, and what helps.
var javaLimits = []struct{ words, remedy string }{
	{"Requested array size exceeds VM limit", "One object would have needed more than 2 GiB, and no heap is large enough for it: split the data into more partitions, or broadcast and collect less"},
	{"Metaspace", "Raise -XX:MaxMetaspaceSize in %s"},
	{"Compressed class space", "Raise -XX:CompressedClassSpaceSize in %s"},
	{"Direct buffer memory", "Raise -XX:MaxDirectMemorySize in %s; it is as large as the heap where it is not set"},
	{"direct buffer", "Raise -XX:MaxDirectMemorySize in %s; it is as large as the heap where it is not set"},                        // "Cannot reserve N bytes of direct buffer memory", since Java 17
	{"unable to create", "There were too many threads or processes for the node's limit of process ids: run fewer tasks at a time"}, // "unable to create (new) native thread"
}

// javaLimitOf a line of the JVM.
func javaLimitOf(line string) (remedy string, found bool) {
	for _, l := range javaLimits {
		if strings.Contains(line, l.words) {
			return l.remedy, true
		}
	}
	return "", false
}

package oom

import (
	"slices"
	"strings"

	"github.com/spark-vitals/spark-vitals/spark"
)

// settings names a setting as the user of an application sets it.
type settings struct {
	role      spark.Role
	submitter spark.Submitter
	profile   string // resource profile of the executor, "" for Spark's default
	engine    bool   // an engine of Kyuubi, not a batch

	*named
}

// named are the settings that were advised. If there are any, the message must say how
// to set them.
type named struct {
	keys    []string // some with their value, "key=value"
	values  []string // "key=value", if the value was worked out
	program bool     // one of them is in the resource profile
}

// example notes a value that was advised.
func (s *settings) example(setting, value string) {
	if value != "" {
		s.values = append(s.values, setting+"="+value)
	}
}

// resourceSettings are those that a resource profile can hold. kubeflow's
// SparkApplication has fields for them, which override its sparkConf (api/v1beta2,
// SparkPodSpec).
var resourceSettings = []string{"memory", "memoryOverhead", "memoryLimit", "cores"}

// name returns the full name of a setting of the role: spark.executor.memoryOverhead
// for "memoryOverhead".
func (s *settings) name(setting string) string {
	full := "spark." + string(s.role) + "." + setting
	switch {
	case s.profile != "" && slices.Contains(resourceSettings, setting):
		s.program = true
		return setting
	case s.submitter == spark.Kubeflow && slices.Contains(resourceSettings, setting):
		return "spec." + string(s.role) + "." + setting
	}
	return s.conf(full)
}

// conf returns the place in which the user sets a key of Spark's configuration.
func (s *settings) conf(key string) string {
	s.keys = append(s.keys, key)
	if s.submitter == spark.Kubeflow || s.submitter == spark.ApacheOperator {
		return "spec.sparkConf[" + key + "]"
	}
	return key
}

// option returns a key of Spark's configuration with the one value that helps.
func (s *settings) option(key, value string) string {
	where := s.conf(key)
	s.keys[len(s.keys)-1] += "=" + value
	return where + "=" + value
}

// confPrefix returns how a group of keys begins.
func (s *settings) confPrefix(prefix string) string {
	s.keys = append(s.keys, "KEY", "KEY")
	if s.submitter == spark.Kubeflow || s.submitter == spark.ApacheOperator {
		return prefix + ". (in spec.sparkConf)"
	}
	return prefix + "."
}

// annotation returns the place in which the user sets an annotation of the role's
// pods.
func (s *settings) annotation(key string) string {
	if s.submitter == spark.Kubeflow {
		return "spec." + string(s.role) + ".annotations[" + key + "]"
	}
	return s.conf("spark.kubernetes." + string(s.role) + ".annotation." + key)
}

// podTemplate returns the place in which the user describes the role's pods.
func (s *settings) podTemplate() string {
	switch s.submitter {
	case spark.Kubeflow:
		return "spec." + string(s.role) + ".template"
	case spark.ApacheOperator:
		return "spec." + string(s.role) + "Spec.podTemplateSpec"
	default:
	}
	return "the pod template (spark.kubernetes." + string(s.role) + ".podTemplateFile)"
}

// where returns the place for the settings that were named, or "" if that is clear.
func (s *settings) where() string {
	switch {
	case s.program:
		return "Set this in resource profile " + s.profile + ", which the program builds (ResourceProfileBuilder)."
	case len(s.keys) == 0:
		return ""
	case s.engine:
		return "Write it at the end of the JDBC URL: " + s.url() + ". The connection that starts the next engine sets it for all users of that engine. A running engine does not change."
	case s.submitter == spark.Kyuubi:
		return "Write it in conf of the batch (with kyuubi-ctl: in request.configs)."
	case s.submitter == spark.Livy:
		return "Write it in conf of the request that starts the session or batch."
	}
	return ""
}

// url returns Kyuubi's URL with the settings that were advised. After "#" its JDBC
// driver splits a setting at its last "=", so options of a JVM go after "?"
// (Utils.java).
func (s *settings) url() string {
	mark, all := ";#", s.values
	if len(all) == 0 {
		for _, key := range s.keys {
			if !strings.Contains(key, "=") {
				key += "=VALUE"
			}
			all = append(all, key)
		}
	}
	if slices.ContainsFunc(all, func(setting string) bool { return strings.Contains(setting, ".extraJavaOptions=") }) {
		mark = "?"
	}
	return "jdbc:kyuubi://HOST:10009/default" + mark + strings.Join(all, ";")
}

const tooLong = "One object needed more than 2 GiB, and no heap is large enough for that. Split the data into more partitions, or broadcast and collect less"

// javaLimits are OutOfMemoryErrors that are not about the heap, in HotSpot's words, and
// what helps.
var javaLimits = []struct{ words, remedy string }{
	{"Requested array size exceeds VM limit", tooLong},
	{"Required array length", tooLong},                  // jdk.internal.util.ArraysSupport
	{"Required length exceeds implementation", tooLong}, // java.lang.AbstractStringBuilder and others
	{"UTF16 String size", tooLong},
	{"Overflow: String length", tooLong},
	{"hugeCapacity", tooLong},
	{"Map failed", "The node ran out of memory or of memory maps (vm.max_map_count). Map fewer files at a time, or run fewer tasks at a time"},
	{"Out of swap space", "The node ran out of memory. Give the pod a node with more, or run fewer tasks at a time"},
	{"Native memory allocation", "The node or the container ran out of memory. Raise %[2]s, or run fewer tasks at a time"},
	{"Metaspace", "Raise -XX:MaxMetaspaceSize in %[1]s"},
	{"Compressed class space", "Raise -XX:CompressedClassSpaceSize in %[1]s"},
	{"Direct buffer memory", "Raise -XX:MaxDirectMemorySize in %[1]s, and raise %[2]s by the same amount. If MaxDirectMemorySize is not set, it is as large as the heap"},
	{"direct buffer", "Raise -XX:MaxDirectMemorySize in %[1]s, and raise %[2]s by the same amount. If MaxDirectMemorySize is not set, it is as large as the heap"},                                              // "Cannot reserve N bytes of direct buffer memory", since Java 17
	{"unable to create", "Either the pod or the node reached its limit of process IDs, or too little memory outside of the heap was left for the stacks of threads. Run fewer tasks at a time, or raise %[2]s"}, // "unable to create (new) native thread"
}

// javaLimitOf returns what helps against the OutOfMemoryError in a line of the JVM.
func javaLimitOf(line string) (remedy string, found bool) {
	for _, l := range javaLimits {
		if strings.Contains(line, l.words) {
			return l.remedy, true
		}
	}
	return "", false
}

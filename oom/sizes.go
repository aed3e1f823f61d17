package oom

import (
	"fmt"
	"regexp"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/spark-vitals/spark-vitals/spark"
)

// Change is a setting to change, for programs that offer to run an application again
// with more.
type Change struct {
	// Setting is a key of Spark's configuration, such as
	// spark.executor.memoryOverhead. For kubeflow's and Apache's operator it is a field
	// of the SparkApplication, such as spec.executor.memoryOverhead.
	Setting string `json:"setting"`
	Now     string `json:"now,omitempty"`  // the current value; "" if the pod does not show it
	Next    string `json:"next,omitempty"` // the value to set
	By      string `json:"by,omitempty"`   // what to add to the current value, if there is no Next
	// Unset comes with By. It is the current value if neither the setting nor a factor
	// for it is set.
	Unset string `json:"unset,omitempty"`
	// Why is the reason for the change, as a sentence.
	Why string `json:"why,omitempty"`
}

// whys are the reasons for changes of a setting, by the end of its name.
var whys = []struct{ setting, why string }{
	{"memoryOverhead", "The memory outside of the heap was too small."},
	{"memoryLimit", "The container's memory limit was too small."},
	{"memory", "The heap was too small."},
	{"failureThreshold", "The probe did not give the container enough time to answer."},
}

// set advises a value.
func (a *adviser) set(c Change) string {
	a.note(c)
	now := ""
	if c.Now != "" {
		now = " (now " + c.Now + ")"
	}
	return fmt.Sprintf("Set %s=%s%s", c.Setting, c.Next, now)
}

// raise advises an amount in MiB.
func (a *adviser) raise(name string, by int64) string {
	a.note(Change{Setting: name, By: Memory(by)})
	return fmt.Sprintf("Raise %s by %s", name, Memory(by))
}

// raiseEstimated advises an amount, and the resulting value if Spark's default is the
// current one.
func (a *adviser) raiseEstimated(name string, by int64) string {
	if a.rest() != a.defaultOverhead(a.HeapMiB) {
		return a.raise(name, by)
	}
	unset := Memory(a.rest())
	next := Memory(roundUp(a.rest()+by, 100))
	a.note(Change{Setting: name, By: Memory(by), Unset: unset})
	a.example(name, next)
	return fmt.Sprintf("Raise %s by %s. If neither it nor spark.kubernetes.memoryOverheadFactor is set, it is %s now: set it to %s", name, Memory(by), unset, next)
}

// note notes a change, unless the program itself has the setting.
func (a *adviser) note(c Change) {
	for _, w := range whys {
		if c.Why == "" && strings.HasSuffix(c.Setting, w.setting) {
			c.Why = w.why
		}
	}
	if a.profile == "" {
		a.changes = append(a.changes, c)
		a.example(c.Setting, c.Next)
	}
}

// Sizes in MiB.
const (
	minOverhead  = 384 // MEMORY_OVERHEAD_MIN_MIB, since Spark 4.0 spark.executor.minMemoryOverhead
	largeRequest = 32 << 10
	// defaultVolume is a volume's size if nothing says how much is needed.
	defaultVolume = 20 << 10
)

func (a *adviser) rest() int64 { return a.LimitMiB - a.HeapMiB }

// smaller returns the smaller of heap and rest. What is missing is in proportion to it.
func (a *adviser) smaller() int64 { return min(a.HeapMiB, a.rest()) }

// heapFillsLimit reports whether the heap leaves nothing of the limit.
func (a *adviser) heapFillsLimit() bool {
	return a.LimitMiB > 0 && !a.Estimated && a.HeapMiB >= a.LimitMiB
}

// limitIsOthers reports whether another system set the limit. Spark sets it equal to
// the request. But since 4.2 Spark itself may set an executor's higher
// (spark.executor.memoryOverheadBursty.enabled, SPARK-54596).
func (a *adviser) limitIsOthers() bool {
	if a.LimitByOthers || a.Settings != nil && a.asked() != a.LimitMiB && a.asked() != a.RequestMiB {
		return true
	}
	if a.Role == spark.Executor && a.submitter != spark.Kubeflow && a.driver.IsAtLeast("4.2") {
		return false
	}
	return a.RequestMiB > 0 && a.RequestMiB < a.LimitMiB
}

// asked returns what Spark asked for by the settings in force.
func (a *adviser) asked() int64 {
	return a.HeapMiB + a.Settings.OverheadMiB + a.Settings.OffHeapMiB + a.Settings.PySparkMiB
}

// defaultOverhead returns what Spark adds to a heap by its default factors: 0.1, or 0.4
// for programs in Python and R (KubernetesConf.scala, BasicExecutorFeatureStep.scala).
func (a *adviser) defaultOverhead(heap int64) int64 {
	tenths := int64(1)
	if a.language == spark.Python || a.language == spark.R {
		tenths = 4
	}
	return max(heap*tenths/10, minOverhead)
}

// isDefaultOverhead reports whether the rest is exactly what Spark adds to the heap by
// itself, so it contains nothing else.
func (a *adviser) isDefaultOverhead() bool {
	return a.rest() == max(a.HeapMiB/10, minOverhead) || a.rest() == max(a.HeapMiB*4/10, minOverhead)
}

// nextHeap returns more than the heap can be now, or 0 if nothing is known of it.
func (a *adviser) nextHeap() int64 {
	if a.HeapMiB > 0 && !a.Estimated {
		return moreHeap(a.HeapMiB)
	}
	most := a.LimitMiB // Spark asked for no more
	if a.limitIsOthers() {
		most = a.RequestMiB
	}
	if most == 0 || a.LimitByOthers {
		return 0
	}
	return max(moreHeap(a.HeapMiB), roundUp(most+1, 1024))
}

func (a *adviser) heapGrowth() int64 {
	if next := a.nextHeap(); next > 0 {
		return next + a.restFor(next) - a.LimitMiB
	}
	return 0
}

// restFor returns what Spark adds to another heap.
func (a *adviser) restFor(heap int64) int64 {
	switch {
	case a.Settings == nil:
		return a.defaultOverhead(heap)
	case a.Settings.OverheadUnset:
		return max(a.Settings.OverheadMiB*heap/max(a.HeapMiB, 1), minOverhead) + a.asked() - a.HeapMiB - a.Settings.OverheadMiB
	}
	return a.asked() - a.HeapMiB
}

// fits warns that a pod that asks for so many MiB more may find no node.
func (a *adviser) fits(more int64) string {
	if total := a.LimitMiB + more; a.LimitMiB > 0 && total > largeRequest {
		return fmt.Sprintf(" The pod then asks for about %d GiB. Check that a node has that much allocatable memory.", roundUp(total, 1024)/1024)
	}
	return ""
}

// Memory writes MiB in the form of Spark's settings: "2500m", "2g".
func Memory(mib int64) string {
	if mib > 0 && mib%1024 == 0 {
		return fmt.Sprintf("%dg", mib/1024)
	}
	return fmt.Sprintf("%dm", mib)
}

// moreOverhead returns half as much again, in whole hundreds of MiB.
func moreOverhead(mib int64) int64 { return roundUp(max(mib+mib/2, minOverhead), 100) }

// moreHeap returns twice as much, or from 8 GiB half as much again, in whole GiB.
func moreHeap(mib int64) int64 {
	if mib < 8<<10 {
		return roundUp(2*mib, 1024)
	}
	return roundUp(mib+mib/2, 1024)
}

func roundUp(n, to int64) int64 { return (n + to - 1) / to * to }

// storageWords finds the limit that the kubelet says was exceeded
// (kubernetes/pkg/kubelet/eviction/helpers.go). Double quotes are single ones by now.
var storageWords = regexp.MustCompile(`limit(?: of containers)? '?([0-9][0-9.]*[A-Za-z]*)`)

// storageLimit returns the limit that the kubelet names, in MiB, or 0.
func storageLimit(said string) int64 {
	match := storageWords.FindStringSubmatch(said)
	if match == nil || len(match[1]) > 16 || strings.ContainsAny(match[1], "eE") {
		return 0
	}
	quantity, err := resource.ParseQuantity(match[1])
	if err != nil || quantity.Sign() < 0 || quantity.Value() > 1<<50 {
		return 0
	}
	return quantity.Value() >> 20
}

func gibibytes(mib int64) string { return fmt.Sprintf("%dGi", max(1, roundUp(mib, 1024)/1024)) }

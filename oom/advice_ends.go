package oom

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/spark-vitals/spark-vitals/spark"
)

// crashed is said of a JVM that crashed. A driver also ends with the exit code of
// the Python or R program that it runs.
func (a *adviser) crashed() string {
	what := "its JVM crashed"
	if a.Role == spark.Driver && a.Said == "" && (a.language == spark.Python || a.language == spark.R) {
		what = "its JVM or its " + string(a.language) + " program crashed"
	}
	fact := fmt.Sprintf("%s ended with exit code %d%s: %s%s.", a.who(), *a.ExitCode, signalOf(*a.ExitCode), what, a.quote())
	remedy := "No limit of its container was reached. Most often a native library is the cause: the JVM's report, hs_err_pidN.log in its working directory, names the frame."
	return join(fact, a.howMany, remedy)
}

// signalOf is " (SIGABRT)" of an exit code 134, "" of what is no crash.
func signalOf(code int32) string {
	if name := crashes[code]; name != "" {
		return " (" + name + ")"
	}
	return ""
}

// suspectsHeap tells whether the JVM is set to end itself when it runs out of
// memory, and ended so without a word.
func (a *adviser) suspectsHeap() bool {
	return a.IsSparks() && a.OnOutOfMemory != "" && a.Said == "" && (a.Cause == Killed || a.Cause == HeapOOM)
}

func (a *adviser) suspectedHeap() string {
	fact := fmt.Sprintf("%s ended with exit code %d. Its JVM ends itself with that code if it runs out of memory (%s).", a.who(), *a.ExitCode, a.OnOutOfMemory)
	suspicion := "Suspected: its heap was full"
	if a.HeapMiB > 0 {
		suspicion = fmt.Sprintf("Suspected: its heap of %d MiB was full", a.HeapMiB)
	}
	return join(fact, a.howMany, suspicion+", and its log says so. If it does,", lower(a.moreHeap()), "More memoryOverhead does not help then.")
}

// limitOfSpark names the limit of Spark's own that ended a driver's program, if
// Spark did.
func (a *adviser) limitOfSpark() string {
	if a.ExitCode == nil || !strings.Contains(a.Said, "spark.driver.maxResultSize") {
		return ""
	}
	return "Spark says: " + strings.TrimRight(a.Said, ". ") + ". Raise " + a.name("maxResultSize") + " only if the driver has the memory for it, or write the result instead of collecting it."
}

// maxEnds of exit codes that are named.
const maxEnds = 3

// executorsEnds says with which exit codes executors ended by themselves: of a
// driver that gave up because too many did (11) all, else only crashes, because
// executors also end with 1 when their driver is gone.
func (r *Record) executorsEnds() (sentences []string) {
	if r.Driver == nil || r.Driver.Cause != Failed || r.Driver.ExitCode == nil {
		return nil
	}
	all := slices.DeleteFunc(slices.Clone(r.Ends), func(e Ends) bool {
		return *r.Driver.ExitCode != exitTooManyFailures && crashes[e.ExitCode] == ""
	})
	slices.SortStableFunc(all, func(a, b Ends) int { return cmp.Compare(b.Count, a.Count) })
	for _, e := range all[:min(len(all), maxEnds)] {
		sentences = append(sentences, e.sentence(r.Executors))
	}
	return sentences
}

// sentence is "6 of 8 executors ended with exit code 134 (SIGABRT): their JVM
// crashed." of so many executors in all.
func (e Ends) sentence(executors int64) string {
	who, their, quick := fmt.Sprintf("%d of %d executors", e.Count, max(executors, int64(e.Count))), "their", ""
	if e.Count == 1 {
		who, their = "1 executor", "its"
	}
	switch e.Quick {
	case 0:
	case e.Count:
		quick = ", within 30 s of " + their + " start"
	default:
		quick = fmt.Sprintf(", %d of them within 30 s of their start", e.Quick)
	}
	crash := ""
	if crashes[e.ExitCode] != "" {
		crash = ": " + their + " JVM crashed"
	}
	return fmt.Sprintf("%s ended with exit code %d%s%s%s.", who, e.ExitCode, signalOf(e.ExitCode), crash, quick)
}

package oom

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/spark-vitals/spark-vitals/spark"
)

// crashed returns the sentences on a JVM that crashed. A driver also ends with the exit
// code of the Python or R program that it runs.
func (a *adviser) crashed() string {
	what := "its JVM crashed"
	if a.Role == spark.Driver && a.Said == "" && (a.language == spark.Python || a.language == spark.R) {
		what = "its JVM or its " + string(a.language) + " program crashed"
	}
	fact := fmt.Sprintf("%s ended with exit code %d%s: %s%s.", a.who(), *a.ExitCode, signalOf(*a.ExitCode), what, a.quote())
	remedy := "It reached no limit of its container. Most often a native library is the cause. The JVM's report, hs_err_pidN.log in its working directory, names the code that crashed."
	return join(fact, a.howMany, remedy)
}

// signalOf returns " (SIGABRT)" for exit code 134, and "" for a code that is not a
// crash.
func signalOf(code int32) string {
	if name := crashes[code]; name != "" {
		return " (" + name + ")"
	}
	return ""
}

// suspectsHeap reports whether the JVM is set to end itself when it runs out of memory,
// and ended that way without a message.
func (a *adviser) suspectsHeap() bool {
	return a.IsSparks() && a.OnOutOfMemory != "" && a.Said == "" && (a.Cause == Killed || a.Cause == HeapOOM)
}

func (a *adviser) suspectedHeap() string {
	fact := fmt.Sprintf("%s ended with exit code %d. Its JVM ends itself with this code when it runs out of memory (%s).", a.who(), *a.ExitCode, a.OnOutOfMemory)
	heap := "Its heap"
	if a.HeapMiB > 0 {
		heap = fmt.Sprintf("Its heap of %d MiB", a.HeapMiB)
	}
	return join(fact, a.howMany, heap+" may have been full. Its log shows if it was. If so,", lower(a.moreHeap()), "More memoryOverhead does not help then.")
}

// limitOfSpark returns Spark's own limit, if that ended the driver's program.
func (a *adviser) limitOfSpark() string {
	if a.ExitCode == nil || !strings.Contains(a.Said, "spark.driver.maxResultSize") {
		return ""
	}
	return "Spark says: " + strings.TrimRight(a.Said, ". ") + ". Raise " + a.name("maxResultSize") + " only if the driver has enough memory for it, or write the result instead of collecting it."
}

// maxEnds is how many ways to end are named.
const maxEnds = 4

// end is one way in which executors ended.
type end struct {
	count int
	how   string
}

// executorsEnds returns how the executors of a driver ended that ended by itself. It
// returns nothing if all of them died the same way, because the message is then about
// that.
func (a *adviser) executorsEnds(r *Record) string {
	if a.Role != spark.Driver || a.Cause != Failed || a.ExitCode == nil {
		return ""
	}
	all, quick := r.ends(*a.ExitCode == exitTooManyFailures), 0
	for _, e := range r.Ends {
		quick += e.Quick
	}
	byThemselves := len(all)
	for _, d := range r.Deaths {
		if d.Role == spark.Executor && d.Container == "" {
			all = append(all, end{d.Count, string(d.Cause)})
		}
	}
	if byThemselves == 0 && len(all) < 2 {
		return ""
	}
	sentence := howEnded(all, r.Executors)
	if quick > 0 {
		sentence += " " + a.option("spark.kubernetes.executor.deleteOnTermination", "false") + " keeps such pods and their logs."
	}
	return sentence
}

// ends returns how executors ended by themselves. If their driver gave up because of
// them, it returns all. Otherwise it returns only crashes and executors that could not
// start: the others may have ended with 1 because the driver was gone.
func (r *Record) ends(gaveUp bool) (all []end) {
	for _, e := range r.Ends {
		signal := crashes[e.ExitCode]
		if !gaveUp && signal == "" {
			e.Count = e.Quick
		}
		var notes []string
		if signal != "" {
			notes = append(notes, signal, "the JVM crashed")
		}
		switch e.Quick {
		case 0:
		case e.Count:
			notes = append(notes, "within 30 s of the start")
		default:
			notes = append(notes, fmt.Sprintf("%d within 30 s of the start", e.Quick))
		}
		how := fmt.Sprintf("with exit code %d", e.ExitCode)
		if len(notes) > 0 {
			how += " (" + strings.Join(notes, ", ") + ")"
		}
		if e.Count > 0 {
			all = append(all, end{e.Count, how})
		}
	}
	return all
}

// howEnded returns "7 of 9 executors ended: 5 with exit code 1, 2 OOMKilled."
func howEnded(all []end, executors int64) string {
	slices.SortStableFunc(all, func(a, b end) int { return cmp.Compare(b.count, a.count) })
	total := 0
	var list []string
	for i, e := range all {
		if total += e.count; i < maxEnds {
			list = append(list, fmt.Sprintf("%d %s", e.count, e.how))
		}
	}
	if len(all) > maxEnds {
		list = append(list, "the rest in other ways")
	}
	who := fmt.Sprintf("%d of %d executors ended", total, max(executors, int64(total)))
	if total == 1 {
		who = "1 executor ended"
	}
	if len(all) == 1 {
		return who + " " + all[0].how + "."
	}
	return who + ": " + strings.Join(list, ", ") + "."
}

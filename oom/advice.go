package oom

import (
	"fmt"
	"strings"

	"github.com/spark-vitals/spark-vitals/spark"
)

// Message returns what happened, in numbers, what can be concluded, what is not known,
// and what to change, with a value. For a driver that ended by itself it also
// describes how its executors died.
func (r *Record) Message(driver spark.Pod) string {
	var parts []string
	together, where, head := &named{}, "", ""
	for i, t := range r.advised() {
		a := r.adviser(t, driver)
		a.named = together
		parts = append(parts, a.sentences())
		if i == 0 {
			parts = append(parts, a.executorsEnds(r))
		}
		where, head = a.where(), a.profile
	}
	if r.Driver != nil { // a driver that has died gets no executors
		return words(append(parts, where))
	}
	for _, plan := range r.Remedy {
		if s := settingsOf(plan, driver, together); s.profile == head {
			parts = append(parts, remedied(plan, s))
			where = s.where()
			continue
		}
		s := settingsOf(plan, driver, &named{})
		parts = append(parts, remedied(plan, s), s.where())
	}
	return words(append(parts, where))
}

// Changes returns the changes that the message advises, for programs that offer to run
// the application again with more. Apply all of them together. It is empty if the
// advice is not a setting that the submitter can pass.
func (r *Record) Changes(driver spark.Pod) (changes []Change) {
	for _, t := range r.advised() {
		a := r.adviser(t, driver)
		a.text()
		changes = append(changes, a.changes...)
	}
	return changes
}

// advised returns the terminations that the message is about.
func (r *Record) advised() (all []*Termination) {
	if r.Driver != nil {
		all = append(all, r.Driver)
	}
	if d := r.headline(); d != nil && (r.Driver == nil || r.Driver.Cause == Failed || r.Driver.Cause == ChildOOMKilled) {
		all = append(all, d)
	}
	return all
}

// headline returns the newest detail of the most frequent cause.
func (r *Record) headline() *Termination {
	var best *Termination
	for i := range r.Details {
		d := &r.Details[i]
		if best == nil || r.countLike(d) > r.countLike(best) {
			best = d
		}
	}
	return best
}

// countLike returns how many died the same way as t.
func (r *Record) countLike(t *Termination) int {
	for _, d := range r.Deaths {
		if d.Role == t.Role && d.Container == t.Container && d.Cause == t.Cause {
			return d.Count
		}
	}
	return 0
}

// Explain returns a few sentences on a termination of the driver's application.
func (r *Record) Explain(t *Termination, driver spark.Pod) string {
	return r.adviser(t, driver).text()
}

func (r *Record) adviser(t *Termination, driver spark.Pod) *adviser {
	return &adviser{
		Termination: t,
		settings:    settings{role: t.Role, submitter: driver.Submitter(), profile: t.Profile, engine: driver.IsKyuubiEngine(), named: &named{}},
		language:    driver.Language(),
		driver:      driver,
		howMany:     r.howMany(t),
		remedied:    r.remedies(t),
	}
}

// howMany returns "3 of 20 executors died this way.", or "" for a driver and for a
// first death.
func (r *Record) howMany(t *Termination) string {
	n := r.countLike(t)
	switch {
	case t.Role == spark.Driver || n < 2:
		return ""
	case r.Executors >= int64(n) && strings.HasPrefix(t.Set, "executors"):
		return fmt.Sprintf("%d of %d executors died this way.", n, r.Executors)
	}
	return fmt.Sprintf("This happened %d times.", n)
}

// adviser writes the sentences on one termination, and notes the changes that they
// advise.
type adviser struct {
	*Termination
	settings
	language spark.Language
	driver   spark.Pod
	howMany  string
	// remedied is whether later executors of the same kind are to get fewer cores.
	remedied bool
	changes  []Change
}

func (a *adviser) text() string {
	return words([]string{a.sentences(), a.where()})
}

// words joins sentences, some of which may be empty.
func words(sentences []string) string {
	return strings.Join(strings.Fields(join(sentences...)), " ")
}

func (a *adviser) sentences() string {
	if !a.IsSparks() {
		return a.sidecar()
	}
	if a.suspectsHeap() {
		return a.suspectedHeap()
	}
	switch a.Cause {
	case OOMKilled:
		return a.oomKilled(join(a.who()+" was killed by the kernel because it ran out of memory.", a.atLimit("it")))
	case ChildOOMKilled:
		return a.oomKilled(join(fmt.Sprintf("The kernel killed a child process of %s%s because of a lack of memory.", a, a.mostOften()), a.atLimit("the container"),
			fmt.Sprintf("The container itself kept running, and ended with exit code %d.", *a.ExitCode)))
	case HeapOOM:
		return a.heapOOM()
	case JavaOOM:
		return a.javaOOM()
	case Hung:
		return a.hung()
	case Killed:
		return a.killed()
	case Disrupted:
		return a.who() + " was ended by the platform" + a.quote() + ". This is not a fault of the application."
	case Crashed:
		return a.crashed()
	case Failed:
		return join(a.failed(), a.limitOfSpark())
	case Rejected, EvictedMemory, EvictedStorage, EvictedInodes, EvictedPIDs, EvictedEmptyDir, EvictedPodStorage, EvictedContainerStorage, Evicted:
		return a.evicted()
	default: // a cause of a later version
		return join(a.who()+" ended: "+string(a.Cause)+a.quote()+".", a.howMany)
	}
}

// who returns the name of what ended, to begin a sentence with.
func (a *adviser) who() string {
	who := a.String()
	return strings.ToUpper(who[:1]) + who[1:]
}

func lower(s string) string { return strings.ToLower(s[:1]) + s[1:] }

func (a *adviser) quote() string {
	if a.Said == "" {
		return ""
	}
	return " (" + strings.TrimRight(a.Said, ". ") + ")"
}

// atLimit returns "Most likely it reached its limit of 5734 MiB (heap 4096, ...).".
// The status does not say which limit was reached: the container's, the pod's, or the
// node's memory.
func (a *adviser) atLimit(who string) string {
	if a.LimitMiB == 0 {
		return ""
	}
	if a.FarBelowLimit() {
		return "Its limit is " + a.limit() + "."
	}
	return "Most likely " + who + " reached its limit of " + a.limit() + "."
}

// limit returns "5734 MiB (heap 4096, the rest 1638 for ...)".
func (a *adviser) limit() string {
	what := "native and off-heap memory"
	switch a.language {
	case spark.JVM:
	case spark.Unknown:
		what = "native and off-heap memory, and Python if it is used"
	default:
		what = string(a.language) + ", " + what
	}
	switch {
	case a.HeapMiB == 0:
		return fmt.Sprintf("%d MiB (the pod does not show how much of it is heap)", a.LimitMiB)
	case a.heapFillsLimit():
		return fmt.Sprintf("%d MiB (the heap alone may take %d, which leaves nothing for %s)", a.LimitMiB, a.HeapMiB, what)
	case a.raised() != nil:
		return fmt.Sprintf("%d MiB (heap %d, the rest %d for %s; Spark asked for %d)", a.LimitMiB, a.HeapMiB, a.rest(), what, a.raised().FromLimitMiB)
	case a.Settings != nil:
		return a.limitParts()
	case a.Estimated:
		return fmt.Sprintf("%d MiB (estimated: heap %d, the rest %d for %s)", a.LimitMiB, a.HeapMiB, a.rest(), what)
	}
	return fmt.Sprintf("%d MiB (heap %d, the rest %d for %s)", a.LimitMiB, a.HeapMiB, a.rest(), what)
}

func (a *adviser) mostOften() string {
	if a.Peaks != nil && !a.Peaks.isEmpty() {
		return "" // what was measured says it
	}
	switch a.language {
	case spark.JVM:
		return ""
	case spark.Unknown:
		return " (most often a Python worker, if there are any)"
	case spark.R:
		return " (most often an R worker)"
	default:
		return " (most often a " + string(a.language) + " worker)"
	}
}

func (a *adviser) oomKilled(fact string) string {
	if a.LimitMiB == 0 {
		return join(fact, a.howMany, "The container has no memory limit, so most likely the node itself ran out of memory. Spark's settings cannot prevent that. Give the container a memory limit.")
	}
	remedy := a.lessInMemory(a.moreBesideHeap())
	if a.FarBelowLimit() {
		remedy = "If its memory grew, " + lower(remedy)
	}
	return join(fact, a.howMany, a.inference(), remedy)
}

// inference returns which part of the memory was too small, and what is not known.
func (a *adviser) inference() string {
	const needed = "how much memory it needed."
	if a.heapFillsLimit() {
		return "A JVM needs more memory than its heap, so the limit is too small for this heap. The status does not show " + needed
	}
	cannot := "The heap cannot exceed its own limit"
	if a.HeapMiB > 0 && !a.Estimated {
		cannot = fmt.Sprintf("The heap cannot exceed %d MiB", a.HeapMiB)
	}
	users, which := "off-heap buffers, thread stacks or native libraries use it up", "which process it was, or "
	switch a.language {
	case spark.JVM:
		which = ""
	case spark.Unknown:
		users = "Python processes use it up or, if there are none, off-heap buffers, thread stacks or native libraries"
	default:
		users = string(a.language) + " workers use it up"
		if a.Role == spark.Driver {
			users = string(a.language) + "'s own process uses it up"
		}
	}
	switch {
	case a.FarBelowLimit():
		return join(a.measured(), a.shortfall())
	case a.Peaks == nil:
		return cannot + ", so the rest was too small. Most often " + users + ". The status does not show " + which + needed
	case a.Peaks.isEmpty():
		return cannot + ", so the rest was too small. Most often " + users + ". " + a.measured()
	}
	return join(cannot+", so the rest was too small.", a.measured(), a.shortfall())
}

// lessInMemory puts advice about local files that count as memory before the other
// advice.
func (a *adviser) lessInMemory(remedy string) string {
	if !a.LocalDirsInMemory {
		return remedy
	}
	return fmt.Sprintf("Put Spark's local files (shuffle, spill) on disk: set %s, or remove medium: Memory from the volume. They are in memory here, and count toward the limit. If they must stay in memory, ", a.option("spark.kubernetes.local.dirs.tmpfs", "false")) + lower(remedy)
}

// moreBesideHeap advises a larger limit for the same heap. It never advises a value
// below the current one: if that is not known, it advises an amount.
func (a *adviser) moreBesideHeap() string {
	name := a.name("memoryOverhead")
	switch {
	case a.raised() != nil:
		return a.beyond(name, *a.raised())
	case a.limitIsOthers():
		text, by := a.raiseLimit(roundUp(a.LimitMiB+max(a.LimitMiB/4, minOverhead), 128))
		return text + a.fewerCores() + "." + by
	case a.rest() < 0: // Spark never sets a limit below the heap
		return fmt.Sprintf("Raise the container's memory limit from %d to %d MiB. Spark did not set this limit, so change it where it is set.", a.LimitMiB, a.HeapMiB+a.defaultOverhead(a.HeapMiB))
	case a.heapFillsLimit():
		over := a.defaultOverhead(a.HeapMiB)
		return a.set(Change{Setting: name, Now: "0m", Next: Memory(over)}) + a.fewerCores() + fmt.Sprintf(". If another system sets the container's limit, raise that limit to %d MiB instead.", a.HeapMiB+over) + a.fits(over)
	case a.Settings != nil:
		return a.raiseFromSettings(name)
	case a.HeapMiB == 0:
		return a.raise(name, roundUp(max(a.LimitMiB/4, minOverhead), 128)) + "."
	case a.Estimated:
		return a.raiseEstimated(name, roundUp(max(a.smaller()/2, minOverhead), 128)) + "."
	case a.Role == spark.Executor && !a.isDefaultOverhead():
		// spark.memory.offHeap.size and spark.executor.pyspark.memory are part of the
		// limit, and Spark limits the use of both.
		by, text := roundUp(max(a.smaller()/4, minOverhead), 128), ""
		if a.rest() > a.defaultOverhead(a.HeapMiB) {
			text = fmt.Sprintf(" If its value comes from spark.kubernetes.memoryOverheadFactor now, set it to %s.", Memory(roundUp(a.rest()+by, 100)))
		}
		return a.raise(name, by) + a.fewerCores() + "." + text + a.fits(by)
	}
	next := moreOverhead(a.rest())
	return a.set(Change{Setting: name, Now: Memory(a.rest()), Next: Memory(next)}) + a.fewerCores() + "." + a.fits(next-a.rest())
}

// raiseLimit advises another limit if Spark did not set it. by is a sentence that says
// so.
func (a *adviser) raiseLimit(next int64) (text, by string) {
	if a.submitter == spark.Kubeflow {
		return a.set(Change{Setting: a.name("memoryLimit"), Now: Memory(a.LimitMiB), Next: Memory(next)}), ""
	}
	text = fmt.Sprintf("Raise the container's memory limit from %d to %d MiB", a.LimitMiB, next)
	if a.RequestMiB == 0 {
		return text, " Spark did not set this limit, so change it where it is set."
	}
	return text, fmt.Sprintf(" Spark asked for %d MiB and did not set this limit, so change it where it is set.", a.RequestMiB)
}

func (a *adviser) fewerCores() string {
	if a.Remedied != nil && a.Remedied.ToCores > 0 && !a.remedied {
		return fmt.Sprintf(", or lower %s from %d to %d, so that fewer tasks share the memory", a.name("cores"), a.Remedied.FromCores, max(a.Cores/2, 1))
	}
	if a.Cores < 2 || a.remedied || a.Settings != nil && a.Cores/2 < a.Settings.TaskCPUs {
		return ""
	}
	return fmt.Sprintf(", or lower %s from %d to %d, so that fewer tasks share the memory", a.name("cores"), a.Cores, a.Cores/2)
}

func (a *adviser) heapOOM() string {
	size := "its size is not known"
	if a.HeapMiB > 0 {
		size = fmt.Sprintf("%d MiB", a.HeapMiB)
		if a.Estimated {
			size += ", estimated"
		}
	}
	if a.LimitMiB > 0 {
		size += fmt.Sprintf("; limit %d MiB", a.LimitMiB)
	}
	if raised := a.raised(); raised != nil {
		size += fmt.Sprintf("; Spark asked for a heap of %d and a limit of %d", raised.FromHeapMiB, raised.FromLimitMiB)
	}
	fact := fmt.Sprintf("%s ran out of Java heap (%s).", a.who(), size)
	exited := fmt.Sprintf("%s exited with code %d, Spark's code for a JVM OutOfMemoryError.", a.who(), exitHeap)
	if a.Said == "" && a.Peaks != nil && !a.Peaks.isEmpty() && a.Peaks.HeapMiB*100 <= a.HeapMiB*farFromFull {
		return join(exited, a.howMany, a.measured(),
			"Either the heap filled after that, or one allocation was too large, or the JVM could not create a thread. The last lines of its log say which. If the heap filled,", lower(a.moreHeap()))
	}
	if a.Said == "" {
		return join(exited, a.howMany, a.measured(),
			fmt.Sprintf("Most often the heap was full (%s), but only the last lines of its log show it. If the heap was full,", size),
			lower(a.moreHeap()),
			"If the log says \"unable to create native thread\", run fewer tasks at a time. More heap does not help then.")
	}
	limit := "The container did not reach its limit, so more memoryOverhead does not help."
	if a.LimitReached {
		limit = "The kernel has also killed a process at the container's limit, so memoryOverhead may be too small as well."
	}
	return join(fact, a.howMany, a.measured(), limit, a.moreHeap())
}

// moreHeap advises a larger heap, and what else helps.
func (a *adviser) moreHeap() string {
	text, limit := a.largerHeap()
	return text + a.lessInHeap() + "." + limit + a.fits(a.heapGrowth())
}

// largerHeap advises a setting or an amount. If Spark does not set the limit, and it
// would be below what Spark then asks for, limit is a sentence that advises a larger one.
func (a *adviser) largerHeap() (text, limit string) {
	heap := a.nextHeap()
	switch {
	case heap == 0 && a.LimitByOthers:
		return "Raise " + a.name("memory"), " With the larger heap, also raise the container's memory limit by the same amount. Spark does not set that limit here."
	case heap == 0:
		return "Raise " + a.name("memory"), ""
	}
	change := Change{Setting: a.name("memory"), Next: Memory(heap)}
	if a.HeapMiB > 0 && !a.Estimated {
		change.Now = Memory(a.HeapMiB)
	}
	if raised := a.raised(); raised != nil {
		change.Now = Memory(raised.FromHeapMiB)
	}
	text = a.set(change)
	if need := heap + a.restFor(heap); a.raised() == nil && (a.limitIsOthers() || a.heapFillsLimit()) && need > a.LimitMiB {
		limit = fmt.Sprintf(" With the larger heap, also raise the container's memory limit to %d MiB or more.", need)
		if a.submitter == spark.Kubeflow && a.limitIsOthers() {
			a.set(Change{Setting: a.name("memoryLimit"), Now: Memory(a.LimitMiB), Next: Memory(need)})
			limit = strings.TrimSuffix(limit, ".") + " (" + a.name("memoryLimit") + ")."
		}
	}
	return text, limit
}

// lessInHeap advises what else helps against a full heap.
func (a *adviser) lessInHeap() string {
	switch {
	case a.Role == spark.Executor:
		return a.fewerCores()
	case strings.Contains(a.Said, broadcastThreshold) || strings.Contains(a.Said, "broadcast"):
		return ", or lower " + a.conf(broadcastThreshold) + " (-1 turns automatic broadcast joins off)"
	case a.language == spark.Python || a.language == spark.Unknown:
		return ", or write the result instead of calling collect() or toPandas()"
	}
	return ", or write the result instead of calling collect()"
}

const broadcastThreshold = "spark.sql.autoBroadcastJoinThreshold"

func (a *adviser) javaOOM() string {
	remedy, found := javaLimitOf(a.Said)
	if !found {
		remedy = "Its log says what it ran out of"
	}
	for placeholder, setting := range map[string]string{"%[1]s": "extraJavaOptions", "%[2]s": "memoryOverhead"} {
		if strings.Contains(remedy, placeholder) {
			remedy = strings.ReplaceAll(remedy, placeholder, a.name(setting))
		}
	}
	return join(a.who()+"'s JVM ran out of something that is not its heap"+a.quote()+".", a.howMany, "More heap does not help.", remedy+".")
}

func (a *adviser) killed() string {
	signal := *a.ExitCode - exitSignals
	fact := fmt.Sprintf("%s was ended by signal %d (exit code %d). No one deleted its pod, and the kubelet gives no reason.", a.who(), signal, *a.ExitCode)
	if !a.Suspected() {
		return join(fact, a.howMany, "It is not known what sent the signal.")
	}
	suspects := "Maybe the kernel sent it because of memory (container runtimes sometimes do not notice that). Or a program in the container sent it"
	if a.Probed {
		suspects += ", or the kubelet after a failed liveness or startup probe"
	}
	fact = join(fact, a.howMany, suspects+".")
	if a.LimitMiB == 0 {
		return fact
	}
	return join(fact, "Its limit is "+a.limit()+".", a.measured(), "If that was too little,", lower(a.lessInMemory(a.moreBesideHeap())))
}

// exitCodes are those that Spark and the JVM use for one purpose.
var exitCodes = map[int32]string{
	11: "Spark gave up because too many executors failed",
	10: "an uncaught error in a thread",
	50: "an uncaught error",
	52: "Spark's code for OutOfMemoryError, which a program may also use",
	3:  "the JVM's code for -XX:+ExitOnOutOfMemoryError, which Spark and programs use too",
}

func (a *adviser) failed() string {
	if a.ExitCode == nil {
		return a.who() + " never ran: its pod failed before" + a.quote() + "."
	}
	fact := fmt.Sprintf("%s ended by itself with exit code %d", a.who(), *a.ExitCode)
	if meaning, ok := exitCodes[*a.ExitCode]; ok {
		fact += " (" + meaning + ")"
	}
	if strings.HasPrefix(a.Said, notStarted) {
		return a.who() + " " + a.Said[:len(notStarted)] + strings.TrimRight(a.Said[len(notStarted):], ". ") + ". Nothing ran, so there is no log of it."
	}
	limit := "It reached no limit of its container."
	if *a.ExitCode == exitHeap || *a.ExitCode == exitOnOutOfMemory {
		limit = "It is not known if it ran out of heap."
	}
	remedy := "Its log says why."
	if a.driver.IsAtLeast("4.1") && a.driver.Annotations[ExitException] == "" {
		remedy += " Set " + a.option("spark.kubernetes.driver.annotateExitException", "true") + " to also see the exception on the pod."
	}
	return join(fact+".", limit, remedy)
}

func (a *adviser) evicted() string {
	if a.Cause == Rejected {
		remedy := "It never ran. Spark asks for another executor by itself."
		if a.Role == spark.Driver {
			remedy = "It never ran. Submit the application again."
		}
		return join(a.who()+" was refused by the node's kubelet"+a.quote()+".", a.howMany, remedy)
	}
	return join(a.who()+" was evicted"+a.quote()+".", a.howMany, a.afterEviction())
}

func (a *adviser) afterEviction() string {
	switch a.Cause {
	case EvictedMemory:
		return "The node ran out of memory, not the container. With a larger " + a.name("memoryOverhead") + " the pod asks for more memory, so Kubernetes places it on a node that has more."
	case EvictedStorage, EvictedInodes:
		return a.onVolume()
	case EvictedPIDs:
		return "The node ran out of process IDs. It is not known what used them. Run fewer tasks at a time on a node."
	case EvictedEmptyDir:
		return a.raiseStorage("the sizeLimit of that volume", a.conf("spark.kubernetes."+string(a.role)+".volumes.emptyDir.NAME.options.sizeLimit"))
	case EvictedPodStorage, EvictedContainerStorage:
		return a.raiseStorage("limits.ephemeral-storage in "+a.podTemplate(), "")
	default:
		return ""
	}
}

// raiseStorage advises twice the limit that the kubelet names, or a volume.
func (a *adviser) raiseStorage(what, where string) string {
	to := ""
	if limit := storageLimit(a.Said); limit > 0 {
		to = " to " + gibibytes(2*limit)
	}
	if where != "" {
		where = " (" + where + ")"
	}
	text := "Raise " + what + to + where + "."
	switch {
	case a.Cause == EvictedEmptyDir && a.LocalDirsInMemory:
		return text + " If the volume is in memory (medium: Memory), its files count toward the container's memory limit. Then put it on disk instead, or raise that limit by the same amount."
	case a.Cause == EvictedEmptyDir && !strings.Contains(a.Said, "'spark-local-dir-"):
		return text
	case a.LocalDirsOnClaim:
		return text + " " + onClaim
	}
	return text + " Or " + lower(a.onVolume())
}

const onClaim = "Spark's local files already have their own volume, so other files filled the disk: its logs, or files of the program."

// onVolume advises all four settings of a volume. Without a class and a size Spark
// makes no claim, and the pod waits for one forever (MountVolumesFeatureStep.scala).
func (a *adviser) onVolume() string {
	if a.LocalDirsOnClaim {
		return onClaim
	}
	size := max(2*storageLimit(a.Said), defaultVolume)
	return fmt.Sprintf("Put Spark's local files on their own volume. This needs four settings that begin with %s: options.claimName=OnDemand, options.storageClass=CLASS (kubectl get storageclass), options.sizeLimit=%s and mount.path=/spark-local-dir-1. %s needs the right to create persistentvolumeclaims.",
		a.confPrefix("spark.kubernetes."+string(a.role)+".volumes.persistentVolumeClaim.spark-local-dir-1"), gibibytes(size), a.claimant())
}

// claimant returns who makes the claims: spark-submit makes the driver's, and the
// driver makes those of its executors.
func (a *adviser) claimant() string {
	if a.Role == spark.Driver {
		return "The user who submits the application"
	}
	return "The driver's service account"
}

func (a *adviser) sidecar() string {
	if a.Cause == ChildOOMKilled {
		return join("The kernel killed a child process of "+a.String()+" because of a lack of memory. Most likely the container reached its limit.", a.howMany, "This is not Spark's container. Raise its memory limit.")
	}
	return join(a.who()+" was killed by the kernel because it ran out of memory. Most likely it reached its limit.", a.howMany, "This is not Spark's container. Raise its memory limit.")
}

func join(sentences ...string) string { return strings.Join(sentences, " ") }

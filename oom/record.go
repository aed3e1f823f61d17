package oom

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/spark"
)

// Limits of a record.
const (
	// MaxBytes limits the annotation. All annotations of a pod together may have
	// 256 KiB, and every watcher of the pod reads them.
	MaxBytes = 8 << 10
	// MaxDetails is how many of the newest terminations are kept; they fill half of that.
	MaxDetails = 16
	// longest limits what wrong clocks can say of how long an executor ran.
	longest = 30 * 24 * time.Hour
	// maxClaims is how many executors' numbers have a claim; they fill an eighth of that.
	maxClaims = 64
)

// Record is what is known of the deaths of one Spark application. It only grows: adding
// a termination again, or in another order, does not change it.
type Record struct {
	// Deaths are how many containers ended of which cause, sorted.
	Deaths []Deaths `json:"deaths,omitempty"`
	// Executors is the highest number of an executor that was seen, which is how many
	// were ever started; 0 if executors have no numbers.
	Executors int64 `json:"executors,omitempty"`
	// Driver is how the driver's own container ended last.
	Driver *Termination `json:"driver,omitempty"`
	// Details are the newest other terminations, the newest first.
	Details []Termination `json:"details,omitempty"`
	// Ends are how many executors ended by themselves with an error, which is not a
	// death. They are sorted by exit code. See [Ended].
	Ends []Ends `json:"ends,omitempty"`
	// LostSeconds is for how long the executors ran that Deaths and Ends count.
	LostSeconds int64 `json:"lostSeconds,omitempty"`
	// Counted are the terminations that Deaths and Ends count. "executors" has their
	// numbers; all other sets have how often the container had been restarted.
	Counted Sets `json:"counted,omitempty"`
	// Claims are the pods that have the highest executor numbers in Counted, by the
	// beginning of the pod's UID. It is "" if several pods claim the number; these are
	// then counted by their pods.
	Claims map[string]map[int64]string `json:"claims,omitempty"`
	// Advice is the changes that the message advises; see [Record.Changes]. On a
	// driver they are the annotation [annotations.Advice], and [Read] reads it.
	Advice []Change `json:"advice,omitempty"`
	// Remedy is what later executors are to get. On a driver it is the annotation
	// [annotations.Remedy], and [Read] reads it.
	Remedy []annotations.RemedyPlan `json:"remedy,omitempty"`
	// Provisional are the terminations in Counted that may still get another cause.
	Provisional Sets `json:"provisional,omitempty"`
}

// Deaths counts the deaths of one kind.
type Deaths struct {
	Role      spark.Role `json:"role"`
	Container string     `json:"container,omitempty"` // "" for Spark's own
	Cause     Cause      `json:"cause"`
	Count     int        `json:"count"`
}

// Ends counts the executors that ended by themselves with one exit code.
type Ends struct {
	ExitCode int32 `json:"exitCode"`
	Count    int   `json:"count"`
	// Quick is how many of them ended within 30 seconds of their start.
	Quick int `json:"quick,omitempty"`
}

// Read reads the record from a driver's annotations. Without one it is empty. An
// annotation that [Record.Annotations] cannot have written is an error: something else
// wrote it. Fields and causes of a later version are not an error.
func Read(from map[string]string) (Record, error) {
	text, ok := from[annotations.OOM]
	if !ok {
		return Record{}, nil
	}
	if len(text) > MaxBytes {
		return Record{}, fmt.Errorf("annotation %s: it has %d bytes, and at most %d are written", annotations.OOM, len(text), MaxBytes)
	}
	var r Record
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return Record{}, fmt.Errorf("annotation %s: %w", annotations.OOM, err)
	}
	if err := r.check(); err != nil {
		return Record{}, fmt.Errorf("annotation %s: %w", annotations.OOM, err)
	}
	if text := from[annotations.Advice]; len(text) <= maxAdvice {
		_ = json.Unmarshal([]byte(text), &r.Advice) // none is better than an error
	}
	r.Remedy = annotations.ReadRemedy(from[annotations.Remedy])
	return r, nil
}

// maxAdvice is how many bytes of the annotation are read, far more than are written.
const maxAdvice = 8 << 10

func (r *Record) check() error {
	for _, d := range r.Deaths {
		if d.Count < 1 {
			return fmt.Errorf("deaths: the count of %s is %d", d.Cause, d.Count)
		}
		if err := check(d.Role, d.Cause); err != nil {
			return fmt.Errorf("deaths: %w", err)
		}
	}
	for _, e := range r.Ends {
		if e.Count < 1 || e.Quick < 0 || e.Quick > e.Count {
			return fmt.Errorf("ends: the count of exit code %d is %d, of these quick %d", e.ExitCode, e.Count, e.Quick)
		}
	}
	if r.LostSeconds < 0 || r.LostSeconds > 1<<40 {
		return fmt.Errorf("lostSeconds: it is %d", r.LostSeconds)
	}
	if len(r.Details) > MaxDetails {
		return fmt.Errorf("details: there are %d, and at most %d are written", len(r.Details), MaxDetails)
	}
	for i := range r.Details {
		if err := r.Details[i].check(); err != nil {
			return fmt.Errorf("details: %w", err)
		}
	}
	if r.Driver != nil {
		if err := r.Driver.check(); err != nil {
			return fmt.Errorf("driver: %w", err)
		}
	}
	return nil
}

func (t *Termination) check() error {
	if t.ExitCode == nil && t.Cause.exits() {
		return fmt.Errorf("exitCode is missing, and cause %s needs it", t.Cause)
	}
	return check(t.Role, t.Cause)
}

var cause = regexp.MustCompile(`^[A-Z][A-Za-z]{0,39}$`)

func check(role spark.Role, c Cause) error {
	if role != spark.Driver && role != spark.Executor {
		return fmt.Errorf("role %q is neither driver nor executor", role)
	}
	if !cause.MatchString(string(c)) {
		return fmt.Errorf("cause %q is not a word such as OOMKilled", c)
	}
	return nil
}

// IsZero reports whether nothing died.
func (r *Record) IsZero() bool { return len(r.Deaths) == 0 }

// Count returns the number of deaths of these causes, of Spark's own containers in a
// role. Without causes it counts all.
func (r *Record) Count(role spark.Role, causes ...Cause) int {
	n := 0
	for _, d := range r.Deaths {
		if d.Role == role && d.Container == "" && (len(causes) == 0 || slices.Contains(causes, d.Cause)) {
			n += d.Count
		}
	}
	return n
}

// Add adds terminations and returns the new ones: not counted yet, or corrected. It
// does not change the parts that a copy of the record shares with it.
func (r *Record) Add(terminations ...Termination) (news []Termination) {
	r.own()
	for i := range terminations {
		if r.add(&terminations[i]) {
			news = append(news, terminations[i])
		}
	}
	return news
}

// SawExecutor notes that an executor of this number exists, and reports whether that
// was new.
func (r *Record) SawExecutor(id int64) bool {
	news := id > r.Executors
	r.Executors = max(r.Executors, id)
	return news
}

func (r *Record) own() {
	r.Deaths, r.Ends, r.Details = slices.Clone(r.Deaths), slices.Clone(r.Ends), slices.Clone(r.Details)
	r.Counted, r.Provisional = r.Counted.clone(), r.Provisional.clone()
	claims := map[string]map[int64]string{}
	for set, numbers := range r.Claims {
		claims[set] = maps.Clone(numbers)
	}
	r.Claims = claims
}

func (r *Record) add(seen *Termination) bool {
	r.contest(seen)
	t := r.identified(seen)
	corrects := !t.Cause.provisional() && r.Counted.has(t) && r.Provisional.has(t)
	switch {
	case r.Unknowable(t), r.Counted.has(t) && !corrects:
		return false
	case corrects:
		r.tally(t, r.countedAs(t), -1)
		r.Provisional.remove(t)
	case t.Cause.provisional():
		r.Provisional.add(t)
	}
	r.Counted.add(t)
	r.tally(t, t.Cause, 1)
	if !corrects && t.Role == spark.Executor && t.IsSparks() {
		r.LostSeconds += int64(min(max(t.lived, 0), longest).Seconds())
	}
	if seen.isNumbered() {
		r.SawExecutor(seen.Number)
	}
	r.claim(t)
	if t.IsDeath() {
		r.keep(t)
	}
	return true
}

// identified returns the termination under the name that the record has for it. If
// another pod claims the same number, that is the name of its pod. So a foreign pod
// with an executor's number does not hide what happens to the executor.
func (r *Record) identified(t *Termination) *Termination {
	if claim, known := r.Claims[t.Set][t.Number]; known && t.isNumbered() && t.uid != "" && claim != t.uid {
		own := *t
		own.Set, own.Number = podSet(t.Set, t.uid), 0
		return &own
	}
	return t
}

// podSet returns the name of a pod's set, for use instead of that of executors'
// numbers.
func podSet(set, uid string) string { return "pod " + uid + strings.TrimPrefix(set, "executors") }

// contest handles a number that two pods claim: the record then knows the first one by
// its pod too, so it does not matter which was seen first.
func (r *Record) contest(t *Termination) {
	first := r.Claims[t.Set][t.Number]
	if first == "" || !t.isNumbered() || t.uid == "" || first == t.uid {
		return
	}
	before := Termination{Set: t.Set, Number: t.Number}
	after := Termination{Set: podSet(t.Set, first)}
	r.Claims[t.Set][t.Number] = ""
	r.Counted.add(&after)
	if r.Provisional.has(&before) {
		r.Provisional.remove(&before)
		r.Provisional.add(&after)
	}
	if kept := r.kept(&before); kept != nil {
		d := *kept
		r.Details = slices.DeleteFunc(r.Details, func(d Termination) bool { return d.same(&before) })
		d.Set, d.Number = after.Set, after.Number
		r.keep(&d)
	}
}

// claim notes which pod has an executor's number, unless several pods claim it.
func (r *Record) claim(t *Termination) {
	if !t.isNumbered() || t.uid == "" {
		return
	}
	numbers := r.Claims[t.Set]
	if numbers == nil {
		numbers = map[int64]string{}
		r.Claims[t.Set] = numbers
	}
	numbers[t.Number] = t.uid
	r.forget(t.Set, maxClaims)
}

// forget drops the pods of a set's lowest numbers, and keeps at most so many.
func (r *Record) forget(set string, most int) {
	numbers := r.Claims[set]
	if extra := len(numbers) - most; extra > 0 {
		for _, n := range slices.Sorted(maps.Keys(numbers))[:extra] {
			delete(numbers, n)
		}
	}
	if len(numbers) == 0 {
		delete(r.Claims, set)
	}
}

// others is a set that marks that sets were dropped to save space. From then on a
// container without a set is no longer counted, because it may have been counted
// before.
const others = "others"

// Unknowable reports whether the record no longer shows if the termination is counted,
// because of a lack of space. Add then does not count it.
func (r *Record) Unknowable(t *Termination) bool {
	_, known := r.Counted[t.Set]
	_, given := r.Counted[others]
	return given && !known && !indispensable(t.Set)
}

func indispensable(set string) bool { return set == "driver" || set == "executors" || set == others }

// Holds reports whether the record has the termination with this cause, as far as its
// details still show.
func (r *Record) Holds(t *Termination) bool {
	t = r.identified(t)
	if kept := r.kept(t); kept != nil {
		return kept.Cause == t.Cause
	}
	if t.Cause == t.provisionalCause() && t.Role == spark.Executor {
		return r.Provisional.has(t)
	}
	return !t.Cause.provisional() && t.Cause != Hung && r.Counted.has(t)
}

// kept returns the detail of a termination, or nil.
func (r *Record) kept(t *Termination) *Termination {
	if r.Driver != nil && r.Driver.same(t) {
		return r.Driver
	}
	if i := slices.IndexFunc(r.Details, func(d Termination) bool { return d.same(t) }); i >= 0 {
		return &r.Details[i]
	}
	return nil
}

func (r *Record) count(d Deaths) {
	i, found := slices.BinarySearchFunc(r.Deaths, d, Deaths.compare)
	if !found {
		r.Deaths = slices.Insert(r.Deaths, i, Deaths{d.Role, d.Container, d.Cause, 0})
	}
	if r.Deaths[i].Count += d.Count; r.Deaths[i].Count <= 0 {
		r.Deaths = slices.Delete(r.Deaths, i, i+1)
	}
}

// tally counts a termination of a cause, or removes it again with -1.
func (r *Record) tally(t *Termination, c Cause, n int) {
	if c != ended {
		r.count(Deaths{t.Role, t.Container, c, n})
		return
	}
	i, found := slices.BinarySearchFunc(r.Ends, *t.ExitCode, func(e Ends, code int32) int { return cmp.Compare(e.ExitCode, code) })
	if !found {
		r.Ends = slices.Insert(r.Ends, i, Ends{ExitCode: *t.ExitCode})
	}
	e := &r.Ends[i]
	e.Count += n
	if t.quick() {
		e.Quick = max(0, e.Quick+n)
	}
	if e.Count <= 0 {
		r.Ends = slices.Delete(r.Ends, i, i+1)
	}
}

// countedAs returns the cause as which a provisional termination is counted. Its own
// detail shows it, or else its exit code, which does not change.
func (r *Record) countedAs(t *Termination) Cause {
	if r.Driver != nil && r.Driver.same(t) {
		return r.Driver.Cause
	}
	return t.provisionalCause()
}

// provisionalCause returns the cause that a termination has before it is corrected.
func (t *Termination) provisionalCause() Cause {
	signalled := t.ExitCode != nil && *t.ExitCode > exitSignals && *t.ExitCode < exitMax
	switch {
	case t.Role == spark.Driver && !signalled:
		return Failed
	case t.Role == spark.Executor && t.ExitCode != nil && *t.ExitCode != exitSIGKILL && t.OnOutOfMemory == "":
		return ended
	}
	return Killed
}

func (d Deaths) compare(other Deaths) int {
	return cmp.Or(cmp.Compare(d.Role, other.Role), cmp.Compare(d.Container, other.Container), cmp.Compare(d.Cause, other.Cause))
}

func (t *Termination) same(other *Termination) bool {
	return t.Set == other.Set && t.Number == other.Number
}

// keep stores the detail of a termination, and replaces an earlier one of the same.
func (r *Record) keep(t *Termination) {
	if t.Role == spark.Driver && t.IsSparks() {
		if r.Driver == nil || r.Driver.same(t) || t.compare(r.Driver) < 0 {
			r.Driver = t
		}
		return
	}
	r.Details = slices.DeleteFunc(r.Details, func(d Termination) bool { return d.same(t) })
	i, _ := slices.BinarySearchFunc(r.Details, t, func(d Termination, t *Termination) int { return d.compare(t) })
	r.Details = slices.Insert(r.Details, i, *t)
	r.Details = r.Details[:min(len(r.Details), MaxDetails)]
}

// encode writes the record in at most so many bytes, or returns "" if nothing fits.
func (r Record) encode(limit int) string {
	r.own()
	r.Advice, r.Remedy = nil, nil // annotations of their own
	for {
		text := r.json()
		if len(text) <= limit {
			return text
		}
		if !r.shorten() {
			return ""
		}
	}
}

func (r Record) json() string {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(r) // plain data: it cannot fail
	return strings.TrimSpace(text.String())
}

// shorten drops the least useful of what the record has, and reports whether there was
// something. It drops an eighth at a time, because that is faster.
func (r *Record) shorten() bool {
	provisional, counted := r.Provisional.longest(), r.Counted.longest()
	sets := slices.DeleteFunc(slices.Sorted(maps.Keys(r.Counted)), indispensable)
	sidecar := slices.IndexFunc(r.Deaths, func(d Deaths) bool { return d.Container != "" })
	switch {
	case len(r.Details) > 1: // the oldest detail
		r.Details = r.Details[:len(r.Details)-1]
	case len(r.Claims) > 0: // which pods have the lowest numbers
		for set, numbers := range r.Claims {
			r.forget(set, len(numbers)*7/8)
		}
	case provisional != "": // which of the lowest numbers are provisional, so their cause is final
		set := r.Provisional[provisional]
		r.Provisional[provisional] = Set{set.spans[max(1, len(set.spans)/8):]}
	case counted != "": // the lowest gaps, so executors of these numbers are taken as counted
		set := r.Counted[counted]
		set.closeGaps(max(1, len(set.spans)/8))
		r.Counted[counted] = set
	case len(sets) > 0: // a set of a sidecar or of an executor without a number, so no more of these are counted
		key := sets[len(sets)-1]
		delete(r.Counted, key)
		delete(r.Provisional, key)
		r.Counted[others] = Set{[]span{{0, 0}}}
	case len(r.Ends) > 0:
		r.Ends = r.Ends[:len(r.Ends)-1]
	case sidecar >= 0:
		r.Deaths = slices.Delete(r.Deaths, sidecar, sidecar+1)
	case len(r.Details) > 0:
		r.Details = nil
	case r.Driver != nil && r.Driver.Said != "":
		driver := *r.Driver
		driver.Said = ""
		r.Driver = &driver
	default:
		return false
	}
	return true
}

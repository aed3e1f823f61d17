package oom_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/internal/captured"
	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
)

// sights are terminations of one application as a recorder may see them: each any
// number of times, and some first with the cause of their exit code alone and later
// with the real one. Several pods may claim one number.
func sights(t *rapid.T, most int) (truth []oom.Termination, seen []oom.Termination) {
	drawn := rapid.SliceOfNDistinct(rapid.Custom(drawTermination), 1, most, func(d oom.Termination) string { return d.Pod }).Draw(t, "terminations")
	for _, d := range drawn {
		if rapid.Bool().Draw(t, "first seen without a reason") {
			first := d
			if first.Cause = oom.CauseEnded; *d.ExitCode == 137 {
				first.Cause = oom.Killed
			}
			seen = append(seen, first)
		}
		for range rapid.IntRange(1, 2).Draw(t, "times seen") {
			seen = append(seen, d)
		}
	}
	return drawn, seen
}

func drawTermination(t *rapid.T) oom.Termination {
	code := rapid.Int32Range(0, 255).Draw(t, "code")
	d := oom.Termination{
		Set:        rapid.SampledFrom([]string{"executors", "executors/proxy", "pod 0a1b2c3d", "pod 4e5f6071"}).Draw(t, "set"),
		Number:     rapid.Int64Range(0, 40).Draw(t, "number"),
		Role:       spark.Executor,
		Cause:      rapid.SampledFrom([]oom.Cause{oom.OOMKilled, oom.HeapOOM, oom.Killed, oom.EvictedMemory, oom.ChildOOMKilled, oom.CauseEnded}).Draw(t, "cause"),
		ExitCode:   &code,
		At:         metav1.NewTime(time.Unix(1795250000+rapid.Int64Range(0, 5).Draw(t, "at"), 0)),
		LimitMiB:   rapid.Int64Range(0, 8192).Draw(t, "limit"),
		Cores:      rapid.IntRange(0, 4).Draw(t, "cores"),
		RequestMiB: rapid.Int64Range(0, 1).Draw(t, "request") * 100,
	}
	d.HeapMiB = rapid.Int64Range(0, d.LimitMiB).Draw(t, "heap")
	d.Estimated = d.HeapMiB > 0 && rapid.Bool().Draw(t, "estimated")
	if strings.HasSuffix(d.Set, "proxy") {
		d.Container = "proxy"
	}
	switch {
	case d.Cause == oom.Killed:
		code = 137
	case d.Cause == oom.CauseEnded && code == 137:
		code = 1
	}
	if rapid.Bool().Draw(t, "quick") {
		d = d.Quick()
	}
	if strings.HasPrefix(d.Set, "executors") {
		// A pod has one number.
		d = d.Of(fmt.Sprintf("%02x%s", d.Number, rapid.SampledFrom([]string{"1b1c1d", "2b2c2d", "3b3c3d"}).Draw(t, "uid")))
	}
	d.Pod = fmt.Sprintf("app %s %d %s", d.Set, d.Number, d.UID())
	return d
}

func counted(r *oom.Record) (total int) {
	for _, d := range r.Deaths {
		total += d.Count
	}
	for _, e := range r.Ends {
		total += e.Count
	}
	return total
}

// The record does not depend on what is seen in which order, in which parts and by
// which replica, and it counts each termination once.
func TestRecordCommutes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		truth, seen := sights(t, 30)
		var want oom.Record
		want.Add(truth...)
		shuffled := rapid.Permutation(seen).Draw(t, "order")
		var got oom.Record
		for len(shuffled) > 0 {
			n := rapid.IntRange(1, len(shuffled)).Draw(t, "piece")
			got.Add(shuffled[:n]...)
			got = written(t, got) // another replica goes on with what stands on the pod
			shuffled = shuffled[n:]
		}
		if d := cmp.Diff(asJSON(t, written(t, want)), asJSON(t, got)); d != "" {
			t.Fatalf("the order matters (-want +got):\n%s", d)
		}
		if total := counted(&got); total != len(truth) {
			t.Fatalf("%d terminations are counted of %d", total, len(truth))
		}
		if news := got.Add(seen...); len(news) > 0 {
			t.Fatalf("%d are news when seen again", len(news))
		}
	})
}

// A pod that another user made with an executor's number hides neither the executor's
// deaths nor what the record says about them: both are counted in either order, and the
// newest is described.
func TestTwoPodsWithOneNumber(t *testing.T) {
	driver := capturedPod(t, "spark-3.5.9/driver")
	code := int32(137)
	died := func(pod, uid string, limit, at int64) oom.Termination {
		d := oom.Termination{Set: "executors", Number: 3, Role: spark.Executor, Pod: pod, Cause: oom.OOMKilled, ExitCode: &code, LimitMiB: limit, HeapMiB: 512, At: metav1.Unix(at, 0)}
		return d.Of(uid)
	}
	forged, true3 := died("forged", "aaaaaaaa", 64<<10, 100), died("etl-exec-3", "bbbbbbbb", 896, 200)
	var one, other oom.Record
	one.Add(forged)
	if news := one.Add(true3); len(news) != 1 {
		t.Fatal("the executor's own death is no news")
	}
	other.Add(true3, forged, true3, forged)
	if d := cmp.Diff(asJSON(t, one), asJSON(t, other)); d != "" {
		t.Errorf("the order matters:\n%s", d)
	}
	if n := one.Count(spark.Executor, oom.OOMKilled); n != 2 {
		t.Errorf("%d deaths are counted", n)
	}
	if !one.Holds(&forged) || !one.Holds(&true3) {
		t.Error("one of them does not stand in the record")
	}
	if text := one.Message(driver); !strings.Contains(text, "etl-exec-3") || !strings.Contains(text, "896 MiB") {
		t.Error(text)
	}
}

// A record of the previous release is read and continued. It does not say which pod had
// a number, so the next pod with the number is taken for that one.
func TestReadsThePreviousRelease(t *testing.T) {
	r, err := oom.Read(map[string]string{annotations.OOM: `{"deaths":[{"role":"executor","cause":"Killed","count":1},{"role":"executor","cause":"OOMKilled","count":2}],"executors":3,"counted":{"executors":"1-3"},"provisional":{"executors":"3"}}`})
	if err != nil {
		t.Fatal(err)
	}
	code := int32(137)
	d := oom.Termination{Set: "executors", Number: 2, Role: spark.Executor, Pod: "x", Cause: oom.OOMKilled, ExitCode: &code}.Of("aaaaaaaa")
	if news := r.Add(d); len(news) > 0 {
		t.Error("it is counted again")
	}
	if d.Number = 3; len(r.Add(d)) != 1 || r.Count(spark.Executor, oom.OOMKilled) != 3 || r.Count(spark.Executor, oom.Killed) != 0 {
		t.Errorf("not corrected: %s", asJSON(t, r))
	}
}

// Add does not change a copy that was made before.
func TestAddLeavesCopies(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		truth, _ := sights(t, 10)
		var record oom.Record
		record.Add(truth[:len(truth)/2]...)
		before := asJSON(t, record)
		kept := record
		record.Add(truth...)
		if after := asJSON(t, kept); after != before {
			t.Fatalf("the copy was %s and is %s", before, after)
		}
	})
}

// Whatever the number of deaths and whatever users write into statuses, the annotations
// keep their size, can be read again, and count nothing twice.
func TestRecordIsBounded(t *testing.T) {
	for _, cause := range []oom.Cause{oom.OOMKilled, oom.Killed, oom.CauseEnded} {
		t.Run(string(cause), func(t *testing.T) { testBounds(t, cause) })
	}
}

func testBounds(t *testing.T, cause oom.Cause) {
	driver := capturedPod(t, "spark-3.5.9/driver")
	var record oom.Record
	total := 0
	for i := range 20000 {
		code := int32(137)
		d := oom.Termination{
			Set: "executors", Number: int64(i * 3), Role: spark.Executor, Pod: strings.Repeat("x", 250), Cause: cause, ExitCode: &code,
			At: metav1.NewTime(time.Unix(int64(i), 0)), Said: strings.Repeat("<&>", 60),
		}
		d = d.Of(strconv.FormatInt(rand.Int64(), 16)[:8])
		if cause == oom.CauseEnded {
			code = int32(1 + i%255)
		}
		if i%100 == 0 {
			d.Set, d.Number = "pod "+d.UID(), 0
		}
		record.Add(d)
		total++
		if i%50 != 0 && i < 19990 {
			continue
		}
		all := record.Annotations(driver, oom.Plenty)
		if n := len(all[annotations.OOM]); n > oom.MaxBytes || n == 0 {
			t.Fatalf("%d bytes after %d deaths", n, i+1)
		}
		checkSchema(t, all[annotations.OOM])
		var err error
		if record, err = oom.Read(all); err != nil {
			t.Fatal(err)
		}
		if len(record.Add(d)) > 0 {
			t.Fatalf("death %d is news when seen again", i)
		}
		if got := record.Count(spark.Executor); got > total {
			t.Fatalf("%d are counted of %d", got, total)
		}
	}
	if got := record.Count(spark.Executor); got < total*99/100 && cause != oom.CauseEnded {
		t.Errorf("%d are counted of %d", got, total)
	}
}

// If the user's own annotations leave little space, the record takes less, and drops
// what is needed most last.
func TestAnnotationsTakeTheRoomThereIs(t *testing.T) {
	driver := capturedPod(t, "spark-3.5.9/driver")
	rapid.Check(t, func(t *rapid.T) {
		truth, _ := sights(t, 30)
		code := int32(137)
		var record oom.Record
		record.Add(truth...)
		record.Add(oom.Termination{Set: "driver", Role: spark.Driver, Pod: "d", Cause: oom.OOMKilled, ExitCode: &code, LimitMiB: 896, HeapMiB: 512, Estimated: true})
		room := rapid.IntRange(0, oom.Plenty).Draw(t, "room")
		all, size := record.Annotations(driver, room), 0
		for key, value := range all {
			size += len(key) + len(value)
		}
		if size > room {
			t.Fatalf("%d bytes in a room of %d", size, room)
		}
		if room > 100 && (all[annotations.State] != "KILLED" || all[annotations.Reason] != "DriverOOMKilled") {
			t.Fatalf("in a room of %d there is only %v", room, all)
		}
		if text, ok := all[annotations.OOM]; ok {
			if got, err := oom.Read(all); err != nil || got.Driver == nil {
				t.Fatalf("%v: %s", err, text)
			}
		}
	})
}

var proposal = regexp.MustCompile(`Set (\S+)=(\d+)([mg])`)

// No message names a memory setting below the current value: the rest of the limit for
// an overhead, and for a heap its size, or everything that Spark requested if the heap
// is only estimated. None is below what Spark starts with. What the annotation advice
// has is in the messages.
func TestAdviceNeverLowers(t *testing.T) {
	driver := capturedPod(t, "spark-4.1.4/driver")
	rapid.Check(t, func(t *rapid.T) {
		d := drawTermination(t)
		d.Container, d.Said = "", "java.lang.OutOfMemoryError: Java heap space"
		d.Role = rapid.SampledFrom([]spark.Role{spark.Driver, spark.Executor}).Draw(t, "role")
		var record oom.Record
		record.Add(d)
		text := record.Explain(&d, driver)
		for _, found := range proposal.FindAllStringSubmatch(text, -1) {
			n, _ := strconv.ParseInt(found[2], 10, 64)
			if found[3] == "g" {
				n <<= 10
			}
			inForce, least := d.HeapMiB, int64(450)
			if d.Estimated {
				inForce = d.LimitMiB
				if d.RequestMiB > 0 {
					inForce = min(inForce, d.RequestMiB)
				}
			}
			if strings.Contains(found[1], "verhead") {
				inForce, least = d.LimitMiB-d.HeapMiB, 384
			}
			if n <= inForce || n < least {
				t.Fatalf("%s, where %d is in force: %s", found[0], inForce, text)
			}
		}
		for _, c := range record.Changes(driver) {
			set, raised := strings.Contains(text, c.Setting+"="+c.Next), strings.Contains(text, c.Setting+" by "+c.By)
			if c.Setting == "" || set && c.Next == "" || raised && c.By == "" || !set && !raised {
				t.Fatalf("%+v: %s", c, text)
			}
		}
	})
}

// For a connection to Kyuubi the advice has the form of its URL. A batch has no
// connection.
func TestAdviceForConnections(t *testing.T) {
	url := regexp.MustCompile(`jdbc:kyuubi://HOST:10009/default;#(\S+)\.`)
	driver := capturedPod(t, "spark-3.5.9/driver")
	driver.Labels["kyuubi-unique-tag"] = "0f3c"
	rapid.Check(t, func(t *rapid.T) {
		class := rapid.SampledFrom([]string{"org.apache.kyuubi.engine.spark.SparkSQLEngine", "com.acme.Main", "org.apache.spark.deploy.PythonRunner"}).Draw(t, "class")
		driver.Container().Args[4] = class
		d := drawTermination(t)
		d.Container, d.Profile = "", ""
		var record oom.Record
		record.Add(d)
		text, written := record.Message(driver), map[string]string{}
		for _, found := range url.FindAllStringSubmatch(text, -1) {
			for setting := range strings.SplitSeq(found[1], ";") {
				key, value, _ := strings.Cut(setting, "=")
				written[key] = value
			}
		}
		if engine := strings.HasSuffix(class, "Engine"); engine == strings.Contains(text, "of the batch") && strings.Contains(text, "Write it") || !engine && len(written) > 0 {
			t.Fatalf("%s: %s", class, text)
		}
		for _, c := range record.Changes(driver) {
			if value, ok := written[c.Setting]; strings.HasSuffix(class, "Engine") && (!ok || c.Next != "" && value != c.Next) {
				t.Fatalf("%+v: %s", c, text)
			}
		}
	})
}

func TestReadRefuses(t *testing.T) {
	for _, text := range []string{
		`nonsense`, `{"deaths":[{"role":"executor","cause":"OOMKilled","count":-3}]}`, `{"counted":{"executors":"5-1"}}`,
		`{"counted":{"executors":"1-99999999999999999999"}}`, `{"counted":{"executors":"3,1"}}`,
		`{"driver":{"role":"driver","cause":"ChildOOMKilled"}}`, `{"driver":{"role":"driver","cause":"Killed"}}`, `{"details":[{"cause":"OOMKilled","exitCode":137}]}`,
		`{"deaths":[{"role":"executor","cause":"<b>","count":1}]}`, `{"ends":[{"exitCode":1,"count":0}]}`, `{"details":[` + strings.Repeat(" ", oom.MaxBytes) + `]}`,
	} {
		if _, err := oom.Read(map[string]string{annotations.OOM: text}); err == nil || !strings.Contains(err.Error(), annotations.OOM) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// A record of a later version is read, with unknown causes as words, and continued.
func TestReadsLaterVersions(t *testing.T) {
	r, err := oom.Read(map[string]string{annotations.OOM: `{"new":1,"deaths":[{"role":"executor","cause":"CosmicRay","count":2}],"details":[{"set":"executors","number":1,"role":"executor","pod":"x","cause":"CosmicRay","at":"2026-11-21T08:34:51Z","new":1}],"counted":{"executors":"1-2"}}`})
	if err != nil || r.Count(spark.Executor, "CosmicRay") != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	if text := r.Message(capturedPod(t, "spark-3.5.9/driver")); !strings.Contains(text, "CosmicRay") || strings.Contains(text, "evicted") {
		t.Error(text)
	}
}

// A record counts more deaths than it has details of, with the cause that it has.
func TestHolds(t *testing.T) {
	code := int32(137)
	died := func(id int64, cause oom.Cause) oom.Termination {
		return oom.Termination{Set: "executors", Number: id, Role: spark.Executor, Pod: fmt.Sprintf("exec-%d", id), Cause: cause, ExitCode: &code, At: metav1.Unix(id, 0)}
	}
	var r oom.Record
	for id := range int64(2 * oom.MaxDetails) {
		r.Add(died(id, oom.Killed))
	}
	r.Add(died(0, oom.OOMKilled), died(oom.MaxDetails, oom.OOMKilled))
	for id := range int64(2*oom.MaxDetails + 1) {
		corrected, there := id == 0 || id == oom.MaxDetails, id < 2*oom.MaxDetails
		killed, byMemory := died(id, oom.Killed), died(id, oom.OOMKilled)
		if r.Holds(&killed) != (there && !corrected) {
			t.Errorf("executor %d: Killed is %t", id, r.Holds(&killed))
		}
		if corrected && !r.Holds(&byMemory) {
			t.Errorf("executor %d: OOMKilled does not stand", id)
		}
	}
}

// Whatever users write into the annotation, it is refused or can be continued.
func FuzzRead(f *testing.F) {
	f.Add(`{"driver":{"set":"driver","role":"driver","cause":"ChildOOMKilled","exitCode":1},"details":[{"role":"executor","cause":"Killed","exitCode":137}],"deaths":[{"role":"executor","cause":"Killed","count":3}],"counted":{"executors":"0,2","":"1"},"provisional":{"executors":"5"}}`)
	f.Add(`{"deaths":[{"role":"driver","cause":"Hung","count":1},{"role":"driver","cause":"Failed","count":9223372036854775807}],"executors":-4,"details":[{"number":-7,"role":"driver","cause":"Rejected"}]}`)
	f.Add(`{"ends":[{"exitCode":1,"count":1}],"counted":{"executors":"4-5"},"claims":{"executors":{"5":"aaaaaaaa","4":""},"driver":{"0":"bbbbbbbb"}},"provisional":{"executors":"4-5"}}`)
	f.Fuzz(func(t *testing.T, text string) {
		driver := capturedPod(t, "spark-3.5.9/driver")
		r, err := oom.Read(map[string]string{annotations.OOM: text})
		if err != nil {
			return
		}
		code := int32(137)
		for _, d := range []oom.Termination{
			{Set: "executors", Number: 5, Role: spark.Executor, Cause: oom.OOMKilled, ExitCode: &code},
			{Set: "driver", Role: spark.Driver, Cause: oom.Killed, ExitCode: &code},
			{Set: "pod 1", Role: spark.Executor, Cause: oom.Killed, ExitCode: &code},
			oom.Termination{Set: "executors", Number: 5, Role: spark.Executor, Cause: oom.CauseEnded, ExitCode: &code}.Of("cccccccc"),
			oom.Termination{Set: "executors", Number: 4, Role: spark.Executor, Cause: oom.OOMKilled, ExitCode: &code}.Of("cccccccc"),
		} {
			r.State(driver)
			r.Annotations(driver, oom.Plenty)
			r.Add(d)
			r.Holds(&d)
			if n := len(r.Annotations(driver, oom.Plenty)[annotations.OOM]); n > oom.MaxBytes {
				t.Fatalf("%d bytes", n)
			}
		}
	})
}

// kubelet runs one container again and again, and reports its statuses as a kubelet
// does. The number is restartCount during that run.
type kubelet struct {
	status corev1.ContainerStatus
	ends   map[time.Time]int64
}

func (k *kubelet) start(now time.Time) {
	if k.status.State.Terminated != nil {
		k.status.LastTerminationState = k.status.State
	}
	if k.status.ContainerID != "" {
		k.status.RestartCount++
	}
	k.status.ContainerID = fmt.Sprintf("containerd://%d", now.Unix())
	k.status.State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
}

func (k *kubelet) end(now time.Time) {
	k.ends[now] = int64(k.status.RestartCount)
	k.status.State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 137, Reason: "OOMKilled", FinishedAt: metav1.NewTime(now), ContainerID: k.status.ContainerID}}
}

func (k *kubelet) backOff() {
	if k.status.State.Terminated != nil {
		k.status.LastTerminationState = k.status.State
	}
	k.status.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}
}

// A container that is restarted in place is counted once for each end, whichever of its
// statuses are seen.
func TestRestartsInPlace(t *testing.T) {
	p := capturedPod(t, "spark-4.1.4-statefulset/executor").Pod
	rapid.Check(t, func(t *rapid.T) {
		k := kubelet{status: corev1.ContainerStatus{Name: p.Spec.Containers[0].Name}, ends: map[time.Time]int64{}}
		now := time.Unix(1795250000, 0)
		seen := map[time.Time]bool{}
		var record oom.Record
		look := func() {
			if !rapid.Bool().Draw(t, "seen") {
				return
			}
			seeing := p.DeepCopy()
			seeing.Status = corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{k.status}}
			for _, d := range oom.Terminations(oom.Evidence{Pod: seeing}) {
				if want := k.ends[d.At.Time]; d.Number != want {
					t.Fatalf("the end of run %d is number %d", want, d.Number)
				}
				seen[d.At.Time] = true
				record.Add(d)
			}
		}
		for range rapid.IntRange(1, 6).Draw(t, "runs") {
			for _, step := range []func(){func() { k.start(now) }, func() { k.end(now) }, k.backOff} {
				now = now.Add(time.Second)
				step()
				look()
			}
		}
		if n := record.Count(spark.Executor); n != len(seen) {
			t.Fatalf("%d are counted, and %d were seen", n, len(seen))
		}
	})
}

func written(t *rapid.T, r oom.Record) oom.Record {
	read, err := oom.Read(map[string]string{annotations.OOM: asJSON(t, r)})
	if err != nil {
		t.Fatal(err)
	}
	return read
}

func asJSON(t interface{ Fatal(...any) }, r oom.Record) string {
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A set behaves like a map of its numbers.
func TestSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var set oom.Set
		want := map[int64]bool{}
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			n := rapid.Int64Range(0, 30).Draw(t, "number")
			if want[n] = rapid.Bool().Draw(t, "add"); want[n] {
				set.Add(n)
			} else {
				set.Remove(n)
			}
			text, _ := set.MarshalText()
			set = oom.Set{}
			if err := set.UnmarshalText(text); err != nil {
				t.Fatal(err)
			}
		}
		for n := range int64(32) {
			if set.Has(n) != want[n] {
				t.Fatalf("%d is %t", n, set.Has(n))
			}
		}
	})
}

// The time that an executor ran counts once, also if its cause is corrected or another pod
// claims its number.
func TestLostSeconds(t *testing.T) {
	dead := func(uid, reason string, code int32) oom.Termination {
		p := &corev1.Pod{}
		if err := json.Unmarshal(captured.Named("spark-3.5.9/executor").Object(), p); err != nil {
			t.Fatal(err)
		}
		began := metav1.NewTime(time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC))
		p.UID = types.UID(uid)
		p.Status = corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{{
			Name:  p.Spec.Containers[0].Name,
			State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Reason: reason, StartedAt: began, FinishedAt: metav1.NewTime(began.Add(100 * time.Second))}},
		}}}
		all := oom.Terminations(oom.Evidence{Pod: p})
		if len(all) != 1 {
			t.Fatal(all)
		}
		return all[0]
	}
	var r oom.Record
	for _, step := range []struct {
		why  string
		died oom.Termination
		want int64
	}{
		{"it was killed", dead("a-1", "Error", 137), 100},
		{"again", dead("a-1", "Error", 137), 100},
		{"the cause is corrected", dead("a-1", "OOMKilled", 137), 100},
		{"another pod with its number", dead("b-1", "OOMKilled", 137), 200},
	} {
		if r.Add(step.died); r.LostSeconds != step.want {
			t.Errorf("%s: %d s, want %d", step.why, r.LostSeconds, step.want)
		}
	}
}

package watch

import (
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/driverui"
	"github.com/spark-vitals/spark-vitals/internal/job"
	"github.com/spark-vitals/spark-vitals/stall"
)

// fill fills the heap of all drivers: their UIs give no data any more, and their logs
// name it from now on.
func (s *simulation) fill(answer driverui.Answer) {
	s.answer, s.names, s.named = answer, fullHeap, time.Now().Add(time.Hour)
}

// stop stops the SparkContext of all drivers, for the reason that their logs name.
func (s *simulation) stop(names string) {
	s.answer, s.names, s.named = driverui.Refused, names, time.Now()
}

const (
	fullHeap = "2026-11-29T21:15:12.1Z java.lang.OutOfMemoryError: Java heap space\n"
	stops    = "2026-11-29T21:15:12.1Z ERROR Utils: uncaught error in thread x, stopping SparkContext\n" + fullHeap
)

// worked starts a bubble with a driver whose UI has given data for an hour.
func worked(t *testing.T, f func(*simulation)) {
	t.Helper()
	bubble(t, func(s *simulation) {
		s.answer = driverui.Data
		s.start("pi-driver")
		s.run(time.Hour)
		f(s)
	})
}

func TestExhausted(t *testing.T) {
	for name, c := range map[string]struct {
		answer driverui.Answer
		want   annotations.Confidence
	}{
		"its UI closes connections": {driverui.Nothing, annotations.Likely},
		"its UI names the error":    {driverui.OutOfMemory, annotations.Sure},
	} {
		worked(t, func(s *simulation) {
			s.fill(c.answer)
			s.run(13 * time.Minute)
			if mark := s.marks["pi-driver"]; mark == nil || !mark.IsOfHeap() || mark.Confidence != c.want || !strings.Contains(mark.Message, "gives no data since "+mark.Since.Format(time.RFC3339)) {
				t.Fatalf("%s: %v", name, mark)
			}
			s.run(3 * time.Hour) // it logs, and that changes nothing
			if got := s.marked(); len(got) != 1 || !slices.Equal(s.events, []string{"pi-driver DriverStalled"}) {
				t.Errorf("%s: marked %v, %v", name, got, s.events)
			}
			s.answer = driverui.Data
			s.run(11 * time.Minute)
			if got := s.marked(); len(got) != 0 || !slices.Equal(s.events, []string{"pi-driver DriverStalled", "pi-driver DriverTalksAgain"}) {
				t.Errorf("%s: then marked %v, %v", name, got, s.events)
			}
		})
	}
}

// The log names the error only before the first question without data. That counts once
// the UI has given no data for longer than a pause lasts.
func TestExhaustedBeforeTheQuestion(t *testing.T) {
	worked(t, func(s *simulation) {
		s.fill(driverui.Nothing)
		s.named = time.Now()
		s.run(20 * time.Minute)
		mark := s.marks["pi-driver"]
		if mark == nil || !mark.IsOfHeap() || mark.Found.Sub(mark.Since) < stall.LongSilence {
			t.Errorf("%v", mark)
		}
	})
}

// The SparkContext stops because of it, and the program goes on. The mark goes when
// something listens again: another SparkContext, or its login.
func TestExhaustedAndStopped(t *testing.T) {
	for _, later := range []driverui.Answer{driverui.Data, driverui.Other, driverui.Broken} {
		worked(t, func(s *simulation) {
			s.stop(stops)
			s.run(25 * time.Minute)
			mark := s.marks["pi-driver"]
			if mark == nil || !mark.IsOfHeap() || !mark.Evidence.Stopped || mark.Confidence != annotations.Likely || mark.Found.Sub(mark.Since) < stall.LongSilence {
				t.Fatalf("%v", mark)
			}
			s.run(3 * time.Hour)
			s.answer = later
			s.run(81 * time.Minute)
			if !slices.Equal(s.events, []string{"pi-driver DriverStalled", "pi-driver DriverTalksAgain"}) {
				t.Errorf("%v: %v", later, s.events)
			}
		})
	}
}

// The heap filled before the stall watch started. Then only error pages and the log
// together count.
func TestExhaustedBefore(t *testing.T) {
	bubble(t, func(s *simulation) {
		s.fill(driverui.OutOfMemory)
		s.start("pi-driver")
		s.run(21 * time.Minute)
		if mark := s.marks["pi-driver"]; mark == nil || !mark.IsOfHeap() || mark.Confidence != annotations.Likely {
			t.Errorf("%v", mark)
		}
	})
	bubble(t, func(s *simulation) {
		s.answer = driverui.OutOfMemory
		s.start("pi-driver")
		s.run(5 * time.Hour)
		if len(s.events) > 0 {
			t.Errorf("%v", s.events)
		}
	})
}

// It is not marked, whatever its UI answers, if it gave no data before, if its log says
// nothing, or if its program stops its SparkContext.
func TestNotExhausted(t *testing.T) {
	for name, then := range map[string]func(*simulation){
		"no word in a log": func(s *simulation) { s.answer = driverui.Nothing },
		"an error long ago": func(s *simulation) {
			s.fill(driverui.Nothing)
			s.named = time.Now().Add(-15 * time.Minute) // it gave data since
		},
		"it works":       func(s *simulation) { s.fill(driverui.Data) },
		"behind a login": func(s *simulation) { s.fill(driverui.Other) },
		"out of reach":   func(s *simulation) { s.fill(driverui.Unreached) },
		"it stopped": func(s *simulation) {
			s.answer = driverui.Refused
			s.run(time.Hour)
			s.fill(driverui.Nothing)
		},
		"its program caught an error and stopped it": func(s *simulation) { s.stop(fullHeap) },
		"another one stopped long ago": func(s *simulation) {
			s.stop(stops)
			s.named = time.Now().Add(-15 * time.Minute)
		},
	} {
		worked(t, func(s *simulation) {
			then(s)
			s.run(5 * time.Hour)
			if len(s.events) > 0 || s.questions == 0 {
				t.Errorf("%s: %v", name, s.events)
			}
		})
	}
	for _, answer := range []driverui.Answer{driverui.Nothing, driverui.Refused} {
		bubble(t, func(s *simulation) {
			s.start("pi-driver")
			s.run(time.Hour)
			s.fill(answer)
			s.names = stops
			s.run(5 * time.Hour)
			if len(s.events) > 0 || s.questions == 0 {
				t.Errorf("no data before: %v", s.events)
			}
		})
	}
}

func TestExhaustedAndSilent(t *testing.T) {
	worked(t, func(s *simulation) {
		s.fill(driverui.Nothing)
		s.run(13 * time.Minute)
		s.silence("pi-driver")
		s.run(2 * time.Hour)
		if !s.marks["pi-driver"].IsOfHeap() {
			t.Errorf("silence replaces it: %v", s.marks["pi-driver"])
		}
		s.thread["pi-driver"] = "dag-scheduler-event-loop"
		s.run(time.Hour)
		if mark := s.marks["pi-driver"]; mark.IsOfHeap() || mark.Confidence != annotations.Sure {
			t.Errorf("a death that is sure does not: %v", mark)
		}
	})
	bubble(t, func(s *simulation) { // silent first
		s.answer = driverui.Data
		s.start("pi-driver")
		s.silence("pi-driver")
		s.run(time.Hour)
		if mark := s.marks["pi-driver"]; mark == nil || mark.IsOfHeap() || mark.Confidence != annotations.Unsure {
			t.Fatalf("%v", mark)
		}
		s.fill(driverui.Nothing)
		s.run(13 * time.Minute)
		if mark := s.marks["pi-driver"]; !mark.IsOfHeap() {
			t.Errorf("%v", mark)
		}
	})
}

// Another leader continues, and a new container begins anew.
func TestExhaustedAndAnotherLeader(t *testing.T) {
	worked(t, func(s *simulation) {
		s.fill(driverui.Nothing)
		s.run(13 * time.Minute)
		s.leadsAnew(73*time.Minute, "pi-driver")
		s.run(3 * time.Hour)
		if len(s.marked()) != 1 || len(s.events) != 1 {
			t.Errorf("%v, %v", s.marked(), s.events)
		}
		pod := driverPod("pi-driver")
		pod.Annotations[annotations.Stalled] = s.marks["pi-driver"].String()
		pod.Status.ContainerStatuses[0].State.Running.StartedAt = metav1.NewTime(time.Now())
		s.see(pod, s)
		s.run(time.Hour)
		if len(s.marked()) != 0 || s.events[len(s.events)-1] != "pi-driver DriverTalksAgain" {
			t.Errorf("after a restart: %v, %v", s.marked(), s.events)
		}
	})
}

// It is asked no more often than the pages say.
func TestQuestions(t *testing.T) {
	for name, c := range map[string]struct {
		answer driverui.Answer
		most   int
	}{
		"healthy":       {driverui.Data, 145},
		"never reached": {driverui.Unreached, 26},
		"never ran":     {driverui.Refused, 26},
		"never gives":   {driverui.Nothing, 26},
	} {
		bubble(t, func(s *simulation) {
			s.answer = c.answer
			s.start("pi-driver")
			s.run(24 * time.Hour)
			if s.questions > c.most || s.questions < 10 {
				t.Errorf("%s: %d questions a day", name, s.questions)
			}
		})
	}
	worked(t, func(s *simulation) { // gives nothing any more, for another reason
		s.answer, s.questions = driverui.Nothing, 0
		s.run(24 * time.Hour)
		if s.questions > 155 {
			t.Errorf("%d questions", s.questions)
		}
	})
	bubble(t, func(s *simulation) { // an ended one is not asked
		s.start("pi-driver")
		s.silence("pi-driver")
		s.run(time.Hour)
		s.unread("pi-driver")
		s.ends(job.KeyOf(driverPod("pi-driver")), s)
		s.questions, s.asked["pi-driver"] = 0, 0
		s.run(time.Hour)
		if s.questions > 0 || s.asked["pi-driver"] > 100 {
			t.Errorf("%d questions, %d looks", s.questions, s.asked["pi-driver"])
		}
	})
}

// So many UIs are asked at a time, and so many of one namespace.
func TestAsksAtOnce(t *testing.T) {
	l := &loop{asking: map[string]int{}}
	asked := map[string]int{}
	for _, namespace := range []string{"a", "a", "a", "b", "b", "c"} {
		if l.mayAsk(namespace) {
			asked[namespace]++
		}
	}
	if asked["a"] != askAtOnceOfNamespace || asked["b"] != askAtOnce-askAtOnceOfNamespace || asked["c"] != 0 {
		t.Errorf("%v", asked)
	}
	l.asked("a")
	if !l.mayAsk("c") {
		t.Error("c still waits")
	}
}

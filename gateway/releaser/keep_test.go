package releaser

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/spark-vitals/spark-vitals/gateway"
	"github.com/spark-vitals/spark-vitals/internal/kyuubitest"
	"github.com/spark-vitals/spark-vitals/spark"
)

const kept = 2 * time.Minute // by default

// keeping is a workbench whose sessions are kept.
func keeping(t *testing.T) *workbench {
	w := newWorkbench(t, dead())
	w.keep = kept
	w.restart()
	return w
}

// The engine is deregistered and reported at once, and its sessions are closed later. A
// release that waits holds no worker, is no failure and none of those pending.
func TestSessionsAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pod := dead()
		w := keeping(t)
		w.see(pod, false)
		w.work(time.Minute)
		if !slices.Equal(w.gateway.order, []string{"registration"}) || w.mark(pod) != "" || len(w.journal()) != 1 {
			t.Error(w.gateway.order, w.mark(pod), w.journal())
		}
		until := w.gateway.removedAt.Add(kept).UTC().Format(time.TimeOnly)
		if text := w.eventTexts(); !strings.Contains(text, "its registration is removed, and the next connection starts a new engine. Its old sessions are kept until "+until+" UTC") {
			t.Errorf("%s, want %s", text, until)
		}
		if n := testutil.CollectAndCount(w.loop.metrics.seconds); n != 1 {
			t.Errorf("%d times from death to deregistration", n)
		}
		if pending, _ := w.loop.pending(); pending > 0 || testutil.ToFloat64(w.loop.metrics.failures) > 0 || len(w.loop.retries) > 0 {
			t.Errorf("%v pending, %v failures", pending, testutil.ToFloat64(w.loop.metrics.failures))
		}
		w.work(kept)
		if !slices.Equal(w.gateway.order, []string{"registration", "sessions"}) || !strings.Contains(w.mark(pod), `"deregistered","sessions":3`) || len(w.journal()) > 0 {
			t.Error(w.gateway.order, w.mark(pod), w.journal())
		}
		if !slices.Equal(w.events(), []string{"EngineReleased"}) {
			t.Error(w.events())
		}
	})
}

// While the gateway is away the time does not run: it counts from the
// deregistration.
func TestKeptFromTheDeregistration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := keeping(t)
		w.gateway.before = func() {
			w.gateway.err = nil
			if calls := len(w.gateway.calls); calls > 0 && calls < 30 {
				w.gateway.err = http.ErrHandlerTimeout
			}
		}
		w.see(dead(), false)
		w.work(time.Hour)
		if got := w.gateway.closedAt.Sub(w.gateway.removedAt); got < kept || got > kept+time.Second {
			t.Errorf("kept for %s", got)
		}
	})
}

// What an Event says of a refusal is true at that time.
func TestRefusalsAreTrue(t *testing.T) {
	for step, want := range map[string]string{
		"registrations": "kyuubi may keep this dead engine. Ask.",
		"deregister":    "kyuubi keeps this dead engine. Ask.",
		"close":         "kyuubi keeps old sessions of this engine. Ask.",
	} {
		synctest.Test(t, func(t *testing.T) {
			w := keeping(t)
			w.gateway.before = func() {
				w.gateway.err = nil
				if step == map[int]string{0: "registrations", 1: "deregister", 2: "close"}[len(w.gateway.calls)] {
					w.gateway.err = &gateway.Refusal{Reason: gateway.RightsMissing, Remedy: "Ask.", Err: http.ErrNoCookie}
				}
			}
			w.see(dead(), false)
			w.work(5 * time.Minute)
			if text := w.eventTexts(); !strings.Contains(text, want) {
				t.Errorf("%s: %s", step, text)
			}
		})
	}
}

// A full journal delays no client that reconnects: the engine is deregistered, its
// sessions are closed in time, and a metric says that it is written nowhere.
func TestJournalIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pod := dead()
		w := keeping(t)
		w.full = true
		begun := time.Now()
		w.see(pod, false)
		w.work(time.Hour)
		if took := w.gateway.removedAt.Sub(begun); took > time.Second || !strings.Contains(w.mark(pod), `"sessions":3`) {
			t.Errorf("deregistered after %s, %s", took, w.mark(pod))
		}
		if n := testutil.ToFloat64(w.loop.metrics.unwritten); n != 1 {
			t.Errorf("%v releases were not written", n)
		}
	})
}

// A client that polls its statement each five seconds, as PyHive does, reads its
// error, the exception and the log; afterwards nothing is left.
func TestClientReadsItsError(t *testing.T) {
	const session, statement = "11111111-2222-3333-4444-555555555555", "22222222-2222-3333-4444-555555555555"
	synctest.Test(t, func(t *testing.T) {
		pod := dead()
		application := pod.Labels["spark-app-selector"]
		server := &kyuubitest.Server{}
		server.Open(kyuubitest.Session{Identifier: session, EngineID: application})
		server.Submit(kyuubitest.Operation{Identifier: statement, Session: session, Log: []string{"started"}})
		call := func(method, path string) string {
			w := httptest.NewRecorder()
			server.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, "/api/v1"+path, nil))
			return w.Body.String()
		}
		w := keeping(t)
		w.gateway.closes = func() { call(http.MethodDelete, "/admin/sessions/"+session) }

		polled := make(chan string)
		go func() {
			for {
				time.Sleep(5 * time.Second)
				var said struct {
					State     string
					Exception struct{ Message string }
				}
				if err := json.Unmarshal([]byte(call(http.MethodGet, "/operations/"+statement+"/event")), &said); err != nil {
					t.Error(err)
				}
				if said.State != "RUNNING_STATE" {
					polled <- said.State + ", " + said.Exception.Message + ", " + call(http.MethodGet, "/operations/"+statement+"/log")
					return
				}
			}
		}()
		time.Sleep(4 * time.Second)
		server.Engine(application, kyuubitest.Dead) // before the kubelet's report
		time.Sleep(900 * time.Millisecond)
		w.see(pod, false)
		w.work(time.Minute)
		if said := <-polled; !strings.HasPrefix(said, "ERROR_STATE, Socket is closed by peer., ") || !strings.Contains(said, "started") {
			t.Error(said)
		}
		time.Sleep(kept - 10*time.Second)
		if said := call(http.MethodGet, "/operations/"+statement+"/log"); !strings.Contains(said, "started") {
			t.Errorf("lost within the time that sessions are kept: %s", said)
		}
		w.work(20 * time.Second)
		if said := call(http.MethodGet, "/operations/"+statement+"/event"); !strings.Contains(said, "Invalid OperationHandle") || len(server.Sessions()) > 0 {
			t.Error(said)
		}
	})
}

// Another pod of its tag, which Kyuubi may have launched meanwhile, keeps no session;
// another driver of its application id does, and the mark says what is true of the
// registration.
func TestAnotherPodWhileSessionsAreKept(t *testing.T) {
	for name, c := range map[string]struct {
		label  string
		closed bool
	}{
		"of its tag": {tagLabel, true}, "of its application": {spark.ApplicationLabel, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			pod := dead()
			w := keeping(t)
			w.see(pod, false)
			w.work(time.Minute)
			other := running(pod)
			other.Name, other.UID = "other", "other"
			for key := range other.Labels {
				if key != c.label && key != spark.RoleLabel {
					other.Labels[key] = "other"
				}
			}
			if err := w.api.Create(t.Context(), other); err != nil {
				t.Fatal(err)
			}
			w.work(2 * time.Hour)
			if closed := slices.Contains(w.gateway.order, "sessions"); closed != c.closed || !strings.Contains(w.mark(pod), `"deregistered"`) {
				t.Errorf("%s: %v, %s", name, w.gateway.order, w.mark(pod))
			}
			if reported := strings.Contains(w.eventTexts(), "keeps old sessions of this engine. Another driver has the application's id"); reported == c.closed {
				t.Errorf("%s: %s", name, w.eventTexts())
			}
		})
	}
}

// A due time that is too far in the future, for example of a wrong clock, is not believed.
func TestDueTooFarAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := keeping(t)
		w.see(dead(), false)
		w.work(time.Minute)
		for _, d := range w.loop.deaths {
			d.release.CloseAt = time.Now().Add(6 * time.Hour)
			if err := w.loop.journal.write(t.Context(), string(d.release.UID), d.release); err != nil {
				t.Fatal(err)
			}
		}
		w.restart()
		w.resume()
		w.work(kept + time.Second)
		if !slices.Contains(w.gateway.order, "sessions") || len(w.journal()) > 0 {
			t.Error(w.gateway.order, w.journal())
		}
	})
}

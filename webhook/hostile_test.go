package webhook

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/spark-vitals/spark-vitals/internal/captured"
	"github.com/spark-vitals/spark-vitals/policy"
)

// A memorySite is the webhook on connections in memory, so that thousands need no
// file descriptors and time is a test's own.
type memorySite struct {
	registry *prometheus.Registry
	accept   chan net.Conn
	closed   chan struct{}
}

func (s *memorySite) Accept() (net.Conn, error) {
	select {
	case c := <-s.accept:
		return c, nil
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

func (s *memorySite) Close() error   { close(s.closed); return nil }
func (s *memorySite) Addr() net.Addr { return &net.TCPAddr{} }

func (s *memorySite) dial() net.Conn {
	client, server := net.Pipe()
	select {
	case s.accept <- server:
	case <-s.closed:
		client.Close()
	}
	return client
}

func newMemorySite() *memorySite {
	return &memorySite{registry: prometheus.NewPedanticRegistry(), accept: make(chan net.Conn), closed: make(chan struct{})}
}

func serveInMemory(t *testing.T) *memorySite {
	return serveHandler(t, func(w *server, m *Metrics) http.Handler {
		return w.reviews(&Handler{Policy: policy.Default(), Metrics: m, Log: w.Log})
	})
}

func serveHandler(t *testing.T, handler func(*server, *Metrics) http.Handler) *memorySite {
	s := newMemorySite()
	w := &server{Config: Config{Log: slog.New(slog.DiscardHandler)}}
	w.ready.Store(true)
	e := &endpoint{
		listener:    s,
		connections: newConnections(s.registry).of("reviews"),
		handler:     handler(w, NewMetrics(s.registry)),
	}
	ctx, stop := context.WithCancel(t.Context())
	stopped := make(chan error)
	go func() { stopped <- e.serve(ctx, log.New(io.Discard, "", 0)) }()
	t.Cleanup(func() {
		stop()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	})
	return s
}

// counted is the number of answers with an HTTP status.
func counted(t *testing.T, registry prometheus.Gatherer, status int) (n uint64) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, metric := range family.Metric {
			for _, label := range metric.Label {
				if family.GetName() == "spark_vitals_admission_duration_seconds" && label.GetName() == "code" && label.GetValue() == strconv.Itoa(status) {
					n += metric.Histogram.GetSampleCount()
				}
			}
		}
	}
	return n
}

func header(length int) string {
	return fmt.Sprintf("POST /mutate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", length)
}

// status of the answer on a connection; 0 where it was closed without one.
func status(c net.Conn) int {
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0
	}
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode
}

// serves tells that a review is answered, as ever.
func (s *memorySite) serves(t *testing.T) {
	t.Helper()
	c := s.dial()
	s.reviewOn(t, c)
	c.Close()
	synctest.Wait() // until the server has seen that, too
}

func (s *memorySite) reviewOn(t *testing.T, c net.Conn) {
	t.Helper()
	go io.WriteString(c, header(len(emptyReview))+emptyReview)
	if got := status(c); got != http.StatusOK {
		t.Errorf("a review is answered by %d", got)
	}
	synctest.Wait() // until the server has seen the end of it
}

// Who sends a byte a second is told so when his time is over, and counted; others
// do not wait for him.
func TestSlowBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, begun := serveInMemory(t), time.Now()
		c, sent := s.dial(), make(chan struct{})
		go func() {
			defer close(sent)
			_, _ = io.WriteString(c, header(len(emptyReview)))
			for _, each := range []byte(emptyReview) {
				time.Sleep(time.Second)
				if _, err := c.Write([]byte{each}); err != nil {
					return
				}
			}
		}()
		s.serves(t)
		if waited := time.Since(begun); waited > 0 {
			t.Errorf("another review waited for %s", waited)
		}
		if got := status(c); got != http.StatusRequestTimeout || time.Since(begun) > readTimeout {
			t.Errorf("answered by %d after %s", got, time.Since(begun))
		}
		c.Close()
		<-sent
		if n := counted(t, s.registry, http.StatusRequestTimeout); n != 1 {
			t.Errorf("counted %d times", n)
		}
	})
}

// Four who are slow to send large bodies, and come again and again, do not keep
// others from sending theirs.
func TestSlowLargeBodies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, end := serveInMemory(t), time.Now().Add(time.Minute)
		var slow sync.WaitGroup
		for range maxLarge {
			slow.Go(func() {
				for time.Now().Before(end) {
					c := s.dial()
					_, _ = io.WriteString(c, header(maxReviewBytes)+strings.Repeat(" ", smallBytes))
					if got := status(c); got != http.StatusRequestTimeout && got != http.StatusServiceUnavailable {
						t.Errorf("who is slow is answered by %d", got)
					}
					c.Close()
				}
			})
		}
		synctest.Wait()
		large := strings.Replace(emptyReview, `"u"`, `"u","name":"`+strings.Repeat("x", smallBytes)+`"`, 1)
		for time.Now().Before(end) {
			c := s.dial()
			go io.WriteString(c, header(len(large))+large)
			if got := status(c); got != http.StatusOK {
				t.Errorf("another is answered by %d", got)
			}
			c.Close()
			time.Sleep(100 * time.Millisecond)
		}
		slow.Wait()
	})
}

// A large review that has come may wait for another to be answered for longer
// than it had time to come.
func TestLargeReviewsInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := admission.HandlerFunc(func(context.Context, admission.Request) admission.Response {
			time.Sleep((largeTime + callersWait/2) / 2)
			return admission.Allowed("")
		})
		s := serveHandler(t, func(w *server, m *Metrics) http.Handler {
			return Reviews(map[string]admission.Handler{"/mutate": slow}, m, w.Log)
		})
		large := strings.Replace(emptyReview, `"u"`, `"u","name":"`+strings.Repeat("x", smallBytes)+`"`, 1)
		var sent sync.WaitGroup
		for range 2 {
			sent.Go(func() {
				c := s.dial()
				defer c.Close()
				go io.WriteString(c, header(len(large))+large)
				if got := status(c); got != http.StatusOK {
					t.Errorf("answered by %d", got)
				}
			})
		}
		sent.Wait()
	})
}

// Whose connection is closed for another's sake, nothing more is done for him.
func TestWhoMustGo(t *testing.T) {
	c := newConnections(prometheus.NewRegistry()).of("reviews")
	var first, last context.Context
	for i := range maxConnections + 1 {
		_, connection := net.Pipe()
		last = c.opened(t.Context(), connection)
		if i == 0 {
			first = last
		}
	}
	if first.Err() == nil || last.Err() != nil {
		t.Errorf("the first: %v, the last: %v", first.Err(), last.Err())
	}
}

// 10,000 connections take no more memory than those that are served.
// Those too many are closed and counted, the others when their time is over, and
// who comes with a review is answered all the time.
func TestManyConnections(t *testing.T) {
	const many = 10_000
	for name, test := range map[string]struct {
		send string
		most int64 // MiB, of the test's own ends too
	}{
		"silent":              {"", 64},
		"half a header":       {header(1)[:30], 128},
		"half a small body":   {header(smallBytes) + strings.Repeat(" ", smallBytes-1), 160},
		"most of a large one": {header(maxReviewBytes) + strings.Repeat(" ", maxReviewBytes-1), 160},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				send := []byte(test.send)
				s, before := serveInMemory(t), heap()
				all := make([]net.Conn, many)
				for i := range all {
					all[i] = s.dial()
					go all[i].Write(send)
				}
				time.Sleep(maxWait) // for those too many to be gone
				synctest.Wait()
				if grown := (heap() - before) >> 20; grown > test.most {
					t.Errorf("%d MiB, want at most %d", grown, test.most)
				}
				checkConnections(t, s, maxConnections, many-maxConnections)
				s.serves(t)
				time.Sleep(writeTimeout + time.Second) // nobody reads the answers
				checkConnections(t, s, 0, many-maxConnections+1)
				s.serves(t)
				for _, c := range all {
					c.Close()
				}
			})
		})
	}
}

// Those who send a review each and stay keep nobody out, and keep their own
// connections until another is in need of one.
func TestIdlers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serveInMemory(t)
		idlers := make([]net.Conn, maxConnections)
		for i := range idlers {
			idlers[i] = s.dial()
			s.reviewOn(t, idlers[i])
		}
		time.Sleep(80 * time.Second)
		s.reviewOn(t, idlers[0]) // in use again
		s.serves(t)
		checkConnections(t, s, maxConnections-1, 1)
		s.reviewOn(t, idlers[0])
		if got := status(idlers[1]); got != 0 {
			t.Errorf("the connection that was unused for the longest time is answered by %d", got)
		}
		for _, c := range idlers {
			c.Close()
		}
	})
}

func checkConnections(t *testing.T, s *memorySite, open, refused int) {
	t.Helper()
	want := fmt.Sprintf(`
# HELP spark_vitals_connections Open connections, by endpoint: reviews, metrics, health.
# TYPE spark_vitals_connections gauge
spark_vitals_connections{endpoint="reviews"} %d
# HELP spark_vitals_connections_refused_total Connections closed because too many were open, the longest unused first.
# TYPE spark_vitals_connections_refused_total counter
spark_vitals_connections_refused_total{endpoint="reviews"} %d
`, open, refused)
	if err := testutil.GatherAndCompare(s.registry, strings.NewReader(want), "spark_vitals_connections", "spark_vitals_connections_refused_total"); err != nil {
		t.Error(err)
	}
}

// While others hold all the slots, a review waits, and in the end is a failed
// call; for two slots together no longer than for one.
func TestNoSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		limit := newLimiter()
		site := reviews{"mutate", admission.HandlerFunc(func(context.Context, admission.Request) admission.Response { return admission.Allowed("") }), NewMetrics(prometheus.NewRegistry()), slog.New(slog.NewJSONHandler(&log, nil)), limit}
		review := func(query, name string) (status int, waited time.Duration) {
			begun, answer := time.Now(), httptest.NewRecorder()
			r := httptest.NewRequest(http.MethodPost, "/mutate"+query, strings.NewReader(strings.Replace(emptyReview, `"u"`, `"u","name":"`+name+`"`, 1)))
			r.Header.Set("Content-Type", "application/json")
			site.ServeHTTP(answer, r)
			return answer.Code, time.Since(begun)
		}
		for _, test := range []struct {
			full   chan struct{}
			waits  string
			others []string
		}{
			{limit.ordinary, "", []string{strings.Repeat("x", smallBytes), strings.Repeat(",", fewElements)}},
			{limit.heavy, strings.Repeat(",", fewElements), []string{""}},
			{limit.heavy, strings.Repeat("x", smallBytes), []string{""}},
			{limit.large, strings.Repeat("x", smallBytes), []string{"", strings.Repeat(",", fewElements)}},
		} {
			for range cap(test.full) {
				test.full <- struct{}{}
			}
			for query, want := range map[string]time.Duration{
				"": 500 * time.Millisecond, "?timeout=": 500 * time.Millisecond, "?timeout=-1s": 500 * time.Millisecond, "?timeout=soon": 500 * time.Millisecond,
				"?timeout=1s": 500 * time.Millisecond, "?timeout=3s": 1500 * time.Millisecond, "?timeout=30s": maxWait,
			} {
				if status, waited := review(query, test.waits); status != http.StatusServiceUnavailable || waited != want {
					t.Errorf("%q is answered by %d after %s", query, status, waited)
				}
			}
			if read := test.full != limit.large; read != strings.Contains(log.String(), `"uid":"u"`) {
				t.Errorf("logged as %.300s", &log)
			}
			log.Reset()
			for _, other := range test.others {
				if status, waited := review("", other); status != http.StatusOK || waited > 0 {
					t.Errorf("another is answered by %d after %s", status, waited)
				}
			}
			go func() {
				time.Sleep(400 * time.Millisecond)
				for range cap(test.full) {
					<-test.full
				}
			}()
			if status, waited := review("?timeout=1s", test.waits); status != http.StatusOK || waited != 400*time.Millisecond {
				t.Errorf("answered by %d after %s, when there is room", status, waited)
			}
		}
		synctest.Wait() // until the last slots are released
		for _, slots := range []chan struct{}{limit.large, limit.ordinary, limit.heavy} {
			if len(slots) > 0 {
				t.Errorf("%d slots are not released", len(slots))
			}
		}
	})
}

// Pods that are large, and not hostile, are injected like others.
func TestLargePods(t *testing.T) {
	variables := func(n int) (all []corev1.EnvVar) {
		for i := range n {
			all = append(all, corev1.EnvVar{Name: fmt.Sprintf("V%d", i), Value: "{null}"})
		}
		return all
	}
	for name, enlarge := range map[string]func(*corev1.PodSpec){
		"1,000 variables": func(s *corev1.PodSpec) { s.Containers[0].Env = append(s.Containers[0].Env, variables(1000)...) },
		"200 containers": func(s *corev1.PodSpec) {
			for i := range 199 {
				s.Containers = append(s.Containers, corev1.Container{Name: fmt.Sprintf("sidecar-%d", i), Env: variables(50)})
			}
		},
	} {
		var pod corev1.Pod
		if err := json.Unmarshal(captured.Named("spark-3.5.9/executor").Object(), &pod); err != nil {
			t.Fatal(err)
		}
		enlarge(&pod.Spec)
		object, err := json.Marshal(pod)
		if err != nil {
			t.Fatal(err)
		}
		s := serve(t, policy.Default(), true)
		for _, path := range []string{"/mutate", "/audit", "/validate"} {
			answer := s.post(t, path, "Pod", object)
			if !answer.Allowed || answer.Warnings != nil || (answer.Patch != nil) != (path != "/validate") {
				t.Errorf("%s with %s: %+v", path, name, answer)
			}
		}
	}
}

// heap is what is alive.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// client-go closes idle connections after 90 s; were we to do it first, a review
// sent at that moment would be lost.
func TestIdleConnectionsOutliveClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serveInMemory(t)
		c := s.dial()
		defer c.Close()
		s.reviewOn(t, c)
		time.Sleep(100 * time.Second)
		s.reviewOn(t, c)
	})
}

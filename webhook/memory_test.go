package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/spark-vitals/spark-vitals/internal/eventually"
	"github.com/spark-vitals/spark-vitals/policy"
)

// TestMain is a webhook where the environment asks for one, as another process.
func TestMain(m *testing.M) {
	text, ok := os.LookupEnv("TEST_WEBHOOK")
	if !ok {
		m.Run()
		return
	}
	c := Config{Policy: policy.Default(), Log: slog.New(slog.NewJSONHandler(os.Stderr, nil))}
	err := json.Unmarshal([]byte(text), &struct{ CertDir, BindAddress, MetricsBindAddress, HealthProbeBindAddress *string }{&c.CertDir, &c.BindAddress, &c.MetricsBindAddress, &c.HealthProbeBindAddress})
	if err == nil {
		err = Run(context.Background(), c)
	}
	panic(err)
}

// Whatever the largest reviews become in memory, four of each kind at a time and
// as many as are answered of the densest small ones: a process with the chart's
// limits lives.
func TestLargestReviews(t *testing.T) {
	const most = 220 // MiB; the chart's limit is 384 MiB, the rest is for sockets
	addresses := map[string]string{"CertDir": t.TempDir()}
	var held []net.Listener
	for _, endpoint := range []string{"BindAddress", "MetricsBindAddress", "HealthProbeBindAddress"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, l) // until all have one, or two may be the same
		addresses[endpoint] = l.Addr().String()
	}
	for _, l := range held {
		l.Close()
	}
	writeCertificate(t, addresses["CertDir"])
	config, err := json.Marshal(addresses)
	if err != nil {
		t.Fatal(err)
	}
	process := exec.Command(os.Args[0])
	process.Env = append(os.Environ(), "TEST_WEBHOOK="+string(config), "GOMEMLIMIT=180MiB")
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = process.Process.Kill(); _ = process.Wait() })
	client := &http.Client{Transport: insecureTransport()}
	eventually.True(t, "ready", func() bool {
		response, err := client.Get("http://" + addresses["HealthProbeBindAddress"] + "/readyz")
		if err == nil {
			response.Body.Close()
		}
		return err == nil && response.StatusCode == http.StatusOK
	})
	answered := 0
	for _, shape := range largest() {
		t.Logf("%s, %d KiB, %d at a time", shape.name, len(shape.body)>>10, shape.atATime)
		var sent sync.WaitGroup
		var mu sync.Mutex
		for range shape.atATime {
			sent.Go(func() {
				response, err := client.Post("https://"+addresses["BindAddress"]+"/mutate", "application/json", bytes.NewReader(shape.body))
				if err != nil { // a body that came too slowly: the connection may be gone before the answer is read
					t.Log(err)
					return
				}
				response.Body.Close()
				mu.Lock()
				defer mu.Unlock()
				if response.StatusCode == http.StatusOK {
					answered++
				}
			})
		}
		sent.Wait()
		peak := peakMemory(t, process.Process.Pid)
		t.Logf("at most %d MiB so far", peak)
		if peak > most {
			t.Errorf("%s: %d MiB, want at most %d", shape.name, peak, most)
		}
	}
	if answered < len(largest()) { // on a slow machine some wait too long
		t.Errorf("only %d reviews are answered", answered)
	}
}

// peakMemory is the most that has been resident, in MiB.
func peakMemory(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	kib, err := strconv.Atoi(string(regexp.MustCompile(`VmHWM:\s+(\d+)`).FindSubmatch(status)[1]))
	if err != nil {
		t.Fatal(err)
	}
	return kib >> 10
}

type shape struct {
	name    string
	body    []byte
	atATime int
}

// largest reviews, of all that a few bytes may become much in memory by.
func largest() (all []shape) {
	elements := map[string]struct {
		pod  string // %[1]s are the elements, %[2]s is of any length
		each func(i int) string
	}{
		"containers":    {`{"metadata":{"labels":{"spark-role":"driver","x":"%[2]s"}},"spec":{"containers":[%[1]s]}}`, func(int) string { return `{}` }},
		"no containers": {`{"metadata":{"labels":{"spark-role":"driver","x":"%[2]s"}},"spec":{"initContainers":[%[1]s]}}`, func(int) string { return `null` }},
		"containers with more": {`{"metadata":{"labels":{"spark-role":"driver","x":"%[2]s"}},"spec":{"containers":[%[1]s]}}`, func(int) string {
			return `{"livenessProbe":{"httpGet":{"httpHeaders":[{}]}}}`
		}},
		"volumes":  {`{"metadata":{"labels":{"x":"%[2]s"}},"spec":{"volumes":[%[1]s]}}`, func(int) string { return `{"projected":{"sources":[{}]}}` }},
		"managers": {`{"metadata":{"labels":{"x":"%[2]s"},"managedFields":[%[1]s]}}`, func(int) string { return `{}` }},
		"limits":   {`{"metadata":{"labels":{"x":"%[2]s"}},"spec":{"containers":[{"resources":{"limits":{%[1]s}}}]}}`, func(i int) string { return fmt.Sprintf(`"%x":0`, i) }},
		"strings":  {`{"metadata":{"labels":{"x":"%[2]s"}},"spec":{"containers":[{"args":[%[1]s]}]}}`, func(int) string { return `""` }},
		"settings": {`{"metadata":{"labels":{"spark-role":"driver","x":"%[2]s"},"annotations":{%[1]s}},"spec":{"containers":[{"name":"spark-kubernetes-driver"}]}}`, func(i int) string { return fmt.Sprintf(`"spark-vitals.io/%x":""`, i) }},
	}
	const envelope = 20 // elements beside those
	for name, e := range elements {
		values := func(n int) string {
			list := make([]string, n)
			for i := range list {
				list[i] = e.each(i)
			}
			return strings.Join(list, ",")
		}
		review := func(n int, long string) []byte {
			return reviewOf(fmt.Sprintf(e.pod, values(n), long))
		}
		most, many := review(maxElements-envelope, ""), maxReviewBytes/(len(e.each(1<<20))+1)-envelope
		all = append(all,
			shape{"as many " + name + " as are read", review(maxElements-envelope, strings.Repeat("x", maxReviewBytes-len(most))), 4},
			shape{"more " + name + " than are read", review(many, ""), 4})
		if few := review(fewElements-envelope, ""); len(few) <= smallBytes {
			all = append(all, shape{"small reviews of " + name, few, maxOrdinary})
		}
	}
	return all
}

// reviewOf the creation of a pod.
func reviewOf(object string) []byte {
	return []byte(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u","name":"n","namespace":"s","operation":"CREATE","resource":{"group":"","version":"v1","resource":"pods"},"object":` + object + `}}`)
}

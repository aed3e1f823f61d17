package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/internal/captured"
)

// benchLoad measures the running webhook, over TLS, with policies of different sizes.
func benchLoad(ctx context.Context, d *document, a *aims) error {
	const duration = 10 * time.Second
	dir, err := os.MkdirTemp("", "spark-vitals-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	authority, err := cluster.NewAuthority("bench")
	if err != nil {
		return err
	}
	c := &cluster.ControlPlane{Dir: dir, Authority: authority} // nothing of it runs but the webhook
	d.say("\n### Load\nThe running `spark-vitals webhook`, captured executor reviews over TLS on 16 connections; only the last rule matches. *Capacity* is reviews in a second of the webhook's CPU time. *Half load* is half of the highest rate that was answered, at random times; times count from when a review was due.")
	d.table("rules", "capacity", "p50 at half load, ms", "p99, ms", "memory, MiB")
	for _, rules := range []int{1, 10, 100} {
		l, err := startLoad(ctx, c, rules)
		if err != nil {
			return err
		}
		most, err := l.saturate(math.MaxInt, duration)
		if err != nil {
			return err
		}
		times, err := l.trickle(most.perSecond/2, duration)
		if err != nil {
			return err
		}
		memory, err := l.memory()
		if err != nil {
			return err
		}
		p99 := quantile(times, 0.99)
		d.row(rules, fmt.Sprintf("%.0f", most.perCPUSecond), fmt.Sprintf("%.2f", quantile(times, 0.5)), fmt.Sprintf("%.2f", p99), fmt.Sprintf("%.0f", memory))
		a.add(fmt.Sprintf("p99 at half load, %d rules, ms", rules), p99, 5)
		a.add(fmt.Sprintf("memory, %d rules, MiB", rules), memory, 64)
		if rules == 100 {
			err = l.grow(d, a)
		}
		l.Stop()
		if err != nil {
			return err
		}
	}
	return nil
}

// load is a running webhook and its client.
type load struct {
	*cluster.Webhook
	client *http.Client
	body   []byte
}

func startLoad(ctx context.Context, c *cluster.ControlPlane, rules int) (*load, error) {
	file := filepath.Join(c.Dir, "policy.yaml")
	if err := os.WriteFile(file, []byte(policyOf(rules)), 0o600); err != nil {
		return nil, err
	}
	w, err := c.StartWebhook(ctx, os.Stderr, "--policy="+file, "--shutdown-delay=0s")
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, MaxIdleConnsPerHost: connections}
	return &load{w, &http.Client{Transport: transport}, captured.Named("spark-3.5.9/executor").JSON}, nil
}

const connections = 16

// policyOf returns a policy with that many rules. The last one is for the captured
// executor.
func policyOf(rules int) string {
	var text strings.Builder
	text.WriteString("rules:\n")
	for i := range rules {
		fmt.Fprintf(&text, `
- name: rule-%d
  match: {role: executor, labels: {matchLabels: {spark-role: %s}}, sparkVersion: ">=3.3"}
  memoryAnnotations: true
  fallbackToLogsOnError: true
  blockManagerPort: {from: 20000, to: 29999}
  probes: {readiness: {tcpSocket: {port: blockmanager}, initialDelaySeconds: 10, periodSeconds: 10, failureThreshold: 3}}
`, i, map[bool]string{true: "executor", false: "nobody"}[i == rules-1])
	}
	return text.String()
}

func (l *load) review() error {
	response, err := l.client.Post(l.URL+"/mutate", "application/json", bytes.NewReader(l.body))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err == nil && !bytes.Contains(answer, []byte(`"patch"`)) {
		err = fmt.Errorf("%s: %s", response.Status, answer)
	}
	return err
}

type throughput struct{ perSecond, perCPUSecond float64 }

// saturate sends the next review at each answer, until there were so many or the time
// is over.
func (l *load) saturate(reviews int, duration time.Duration) (throughput, error) {
	before, err := l.cpu()
	if err != nil {
		return throughput{}, err
	}
	begun := time.Now()
	times, err := l.send(func(sent int) (due time.Time, ok bool) {
		now := time.Now()
		return now, sent < reviews && now.Sub(begun) < duration
	})
	if err != nil {
		return throughput{}, err
	}
	took := time.Since(begun)
	after, err := l.cpu()
	answered := float64(len(times))
	return throughput{answered / took.Seconds(), answered / (after - before).Seconds()}, err
}

// trickle sends so many reviews a second at random times, and returns how long each
// took from the time it was due.
func (l *load) trickle(perSecond float64, duration time.Duration) ([]time.Duration, error) {
	due, end := time.Now(), time.Now().Add(duration)
	return l.send(func(int) (time.Time, bool) {
		due = due.Add(time.Duration(rand.ExpFloat64() / perSecond * float64(time.Second)))
		return due, due.Before(end)
	})
}

// send sends reviews on all connections, each when next says that it is due.
func (l *load) send(next func(sent int) (due time.Time, ok bool)) (times []time.Duration, err error) {
	var (
		mu   sync.Mutex
		sent int
		work errgroup.Group
	)
	take := func() (time.Time, bool) {
		mu.Lock()
		defer mu.Unlock()
		due, ok := next(sent)
		sent++
		return due, ok
	}
	for range connections {
		work.Go(func() error {
			for {
				due, ok := take()
				if !ok {
					return nil
				}
				time.Sleep(time.Until(due))
				if err := l.review(); err != nil {
					return err
				}
				mu.Lock()
				times = append(times, time.Since(due))
				mu.Unlock()
			}
		})
	}
	return times, work.Wait()
}

// grow measures the memory while very many reviews are answered.
func (l *load) grow(d *document, a *aims) error {
	const parts = 10
	var all []float64
	var texts []string
	for range parts {
		if _, err := l.saturate(*reviews/parts, time.Hour); err != nil {
			return err
		}
		memory, err := l.memory()
		if err != nil {
			return err
		}
		all = append(all, memory)
		texts = append(texts, fmt.Sprintf("%.0f", memory))
	}
	d.say("\nMemory after each tenth of %d reviews: %s MiB.", *reviews, strings.Join(texts, ", "))
	a.add("memory after all reviews, of that after a tenth", all[parts-1]/all[0], 1.1)
	return nil
}

// memory returns the resident memory of the webhook in MiB.
func (l *load) memory() (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", l.PID()))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	return kib / 1024, err
}

// cpu returns the CPU time that the webhook has used: fields 14 and 15 of its stat, in
// hundredths of a second.
func (l *load) cpu() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", l.PID()))
	if err != nil {
		return 0, err
	}
	_, afterName, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(afterName)
	user, err := strconv.Atoi(fields[11])
	if err != nil {
		return 0, err
	}
	system, err := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond, err
}

// Command demo shows what spark-vitals does on a real API server: it registers the
// webhook over TLS, creates real Spark's pods in three namespaces, and prints the
// result. It leaves nothing behind.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/e2e/cluster"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := demo(ctx, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "The demo failed:", err)
		os.Exit(1)
	}
}

var namespaces = []struct{ name, mode, title string }{
	{"spark-on", "enabled", "injected"},
	{"spark-audit", "audit", "what would be injected; nothing is"},
	{"spark-off", "", "spared"},
}

func demo(ctx context.Context, out io.Writer) error {
	fmt.Fprintln(out, "Starting etcd and kube-apiserver; from nothing they are built first, which takes some minutes.")
	return cluster.WithControlPlane(ctx, out, func(c *cluster.ControlPlane) error { return demoOn(ctx, c, out) })
}

func demoOn(ctx context.Context, c *cluster.ControlPlane, out io.Writer) error {
	fmt.Fprintln(out, "Starting spark-vitals webhook and registering it over TLS.")
	w, err := c.StartWebhook(ctx, out, "--shutdown-delay=0s")
	if err != nil {
		return err
	}
	defer w.Stop()
	if err := c.Register(ctx, "spark-vitals", w.URL, nil); err != nil {
		return err
	}
	fmt.Fprintln(out, "Creating the pods and Services that Spark 3.5.9 and 4.1.4 made, in three namespaces.")
	return showAll(ctx, c, out)
}

func showAll(ctx context.Context, c *cluster.ControlPlane, out io.Writer) error {
	var driver *corev1.Pod
	for _, n := range namespaces {
		labels := map[string]string{}
		if n.mode != "" {
			labels[annotations.Inject] = n.mode
		}
		if err := c.Namespace(ctx, n.name, labels); err != nil {
			return err
		}
		if n.mode != "" {
			if err := cluster.Injects(ctx, c.Client, n.name, 3*time.Minute); err != nil {
				return err
			}
		}
		rows, injected, err := createAll(ctx, c.Client, n.name)
		if err != nil {
			return err
		}
		if n.mode == "enabled" {
			driver = injected
		}
		label := "no label"
		if n.mode != "" {
			label = "label " + annotations.Inject + "=" + n.mode
		}
		fmt.Fprintf(out, "\nNamespace %s, %s: %s\n", n.name, label, n.title)
		if err := printRows(out, rows); err != nil {
			return err
		}
	}
	return printDriver(out, driver)
}

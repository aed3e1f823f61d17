package releaser

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spark-vitals/spark-vitals/e2e/cluster"
)

// The examples of docs/annotations.md, run unchanged, report a driver that is dead when
// they start and one that dies later, and no driver that runs.
func TestExamples(t *testing.T) {
	forget, err := cluster.Build(t.Context(), "docs/examples/forget", "forget", os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	root, err := cluster.Root()
	if err != nil {
		t.Fatal(err)
	}
	as, err := controlPlane.As(t.Context(), "spark-vitals", "spark-vitals-releaser")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"token": as.BearerToken, "ca.crt": string(controlPlane.Authority.PEM)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	before := newEngine(t).die().recorded()
	var outputs []*bufio.Scanner
	for _, command := range [][]string{{forget}, {"python3", filepath.Join(root, "docs/examples/forget.py")}} {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Minute)
		cmd := exec.CommandContext(ctx, command[0], command[1:]...)
		cmd.Env = append(os.Environ(), "NAMESPACE=spark", "KUBECONFIG="+controlPlane.Kubeconfig, "API="+controlPlane.Config.Host, "CREDENTIALS="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cancel(); _ = cmd.Wait() })
		outputs = append(outputs, bufio.NewScanner(out))
	}
	var lives *engine
	until := func(e *engine) {
		t.Helper()
		for i, out := range outputs {
			for {
				if !out.Scan() {
					t.Fatalf("example %d ended", i)
				}
				var said struct{ UID, Application, Reason string }
				if err := json.Unmarshal(out.Bytes(), &said); err != nil {
					t.Fatal(err)
				}
				if lives != nil && said.UID == string(lives.pod.UID) {
					t.Errorf("example %d forgets a driver that runs", i)
				}
				if said.UID == string(e.pod.UID) && said.Application == e.app && said.Reason == "DriverOOMKilled" {
					break
				}
			}
		}
	}
	until(before)
	lives = newEngine(t).recorded() // a forged record on a driver that runs
	dies := newEngine(t).die().recorded()
	if err := api.CoreV1().Pods("spark").Delete(t.Context(), dies.pod.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
		t.Fatal(err)
	}
	until(dies)
}

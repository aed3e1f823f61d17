package lab

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

var probed = regexp.MustCompile(`(?m)^prober_probe_total\{(.*)\} (\d+)$`)

// Probed returns how often a probe ("Liveness", "Readiness", "Startup") of a running
// pod has passed and failed, as the kubelet counts it. Unlike Events, no result is
// lost.
func (l *Lab) Probed(ctx context.Context, pod *corev1.Pod, probe string) (passed, failed int, err error) {
	text, err := l.Client.CoreV1().RESTClient().Get().AbsPath("/api/v1/nodes", pod.Spec.NodeName, "proxy/metrics/probes").DoRaw(ctx)
	if err != nil {
		return 0, 0, fmt.Errorf("asking the kubelet for its probes: %w", err)
	}
	for _, line := range probed.FindAllStringSubmatch(string(text), -1) {
		if !strings.Contains(line[1], fmt.Sprintf("pod_uid=%q", pod.UID)) || !strings.Contains(line[1], fmt.Sprintf("probe_type=%q", probe)) {
			continue
		}
		n, err := strconv.Atoi(line[2])
		if err != nil {
			return 0, 0, fmt.Errorf("reading the kubelet's probes: %w", err)
		}
		switch {
		case strings.Contains(line[1], `result="successful"`):
			passed += n
		case strings.Contains(line[1], `result="failed"`):
			failed += n
		}
	}
	return passed, failed, nil
}

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// EnforceNetworkPolicies enforces the cluster's NetworkPolicies between its pods, until
// stop or the end of this process. The node itself reaches every pod. A rule of
// iptables hands the first packet of each connection to the reference implementation,
// whose own rule uses nftables that not every kernel has.
func (c *Cluster) EnforceNetworkPolicies(ctx context.Context, progress io.Writer) (stop func(), err error) {
	binary, err := Build(ctx, "e2e/addons/networkpolicies", "networkpolicies", progress)
	if err != nil {
		return nil, err
	}
	endQueueing(ctx) // of an earlier process
	p, err := start(c.Dir, "networkpolicies", false, binary, c.Kubeconfig, NodeName, queue)
	if err != nil {
		return nil, err
	}
	stop = func() {
		endQueueing(context.WithoutCancel(ctx))
		p.stop(2 * time.Second)
	}
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err = p.until(waiting, queueIsRead); err == nil {
		err = beginQueueing(ctx)
	}
	if err != nil {
		stop()
		return nil, err
	}
	return stop, nil
}

// queue of the kernel for packets that wait for a verdict.
const queue, queueChain = "100", "E2E-POLICIES"

func beginQueueing(ctx context.Context) error {
	for _, args := range [][]string{
		{"-N", queueChain},
		{"-A", queueChain, "-m", "addrtype", "--src-type", "LOCAL", "-j", "RETURN"},
		{"-A", queueChain, "-d", PodCIDR, "-m", "conntrack", "--ctstate", "NEW", "-j", "NFQUEUE", "--queue-num", queue, "--queue-bypass"},
		{"-I", "POSTROUTING", "-s", PodCIDR, "-j", queueChain},
	} {
		if out, err := exec.CommandContext(ctx, "iptables", append([]string{"-t", "mangle"}, args...)...).CombinedOutput(); err != nil {
			return fmt.Errorf("iptables -t mangle %v: %w\n%s", args, err, out)
		}
	}
	return nil
}

func endQueueing(ctx context.Context) {
	for _, args := range [][]string{{"-D", "POSTROUTING", "-s", PodCIDR, "-j", queueChain}, {"-F", queueChain}, {"-X", queueChain}} {
		_ = exec.CommandContext(ctx, "iptables", append([]string{"-t", "mangle"}, args...)...).Run() // it may not be there
	}
}

// queueIsRead returns nil once a process reads the queue.
func queueIsRead(context.Context) error {
	queues, err := os.ReadFile("/proc/net/netfilter/nfnetlink_queue")
	if err != nil {
		return fmt.Errorf("the kernel has no queues for packets: %w", err)
	}
	for line := range strings.Lines(string(queues)) {
		if fields := strings.Fields(line); len(fields) > 0 && fields[0] == queue {
			return nil
		}
	}
	return errors.New("nothing reads the queue of packets")
}

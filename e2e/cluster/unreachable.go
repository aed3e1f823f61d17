package cluster

import (
	"context"
	"fmt"
	"os/exec"
)

// Unreachable drops packets from this machine, and so from the kubelet, to a range of
// TCP ports of any pod. Pods still reach each other. It holds until [Reachable] or the
// end of the cluster.
func Unreachable(ctx context.Context, from, to int) error {
	for _, args := range [][]string{
		{"-N", chain},
		{"-A", chain, "-d", PodCIDR, "-p", "tcp", "--dport", fmt.Sprintf("%d:%d", from, to), "-j", "DROP"},
		{"-I", "OUTPUT", "-j", chain},
	} {
		if out, err := exec.CommandContext(ctx, "iptables", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("iptables %v: %w\n%s", args, err, out)
		}
	}
	return nil
}

const chain = "E2E-UNREACHABLE"

// Reachable undoes [Unreachable].
func Reachable(ctx context.Context) {
	for _, args := range [][]string{{"-D", "OUTPUT", "-j", chain}, {"-F", chain}, {"-X", chain}} {
		_ = exec.CommandContext(ctx, "iptables", args...).Run() // it may not be there
	}
}

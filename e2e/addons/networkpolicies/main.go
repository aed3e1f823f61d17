// Command networkpolicies enforces NetworkPolicies on a node: it accepts or drops the
// first packet of each connection that the kernel hands it by a queue. It is SIG
// Network's reference implementation, without its own image and its way to run.
//
//	networkpolicies KUBECONFIG NODE QUEUE
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/kube-network-policies/pkg/networkpolicy"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) != 3 {
		return errors.New("usage: networkpolicies KUBECONFIG NODE QUEUE")
	}
	queue, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", args[0])
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	known := informers.NewSharedInformerFactory(client, 0)
	enforcer, err := networkpolicy.NewController(client, known.Networking().V1().NetworkPolicies(), known.Core().V1().Namespaces(), known.Core().V1().Pods(),
		nil, nil, nil, nil, networkpolicy.Config{NodeName: args[1], QueueID: queue})
	if err != nil {
		return err
	}
	known.Start(ctx.Done())
	return enforcer.Run(ctx)
}

// Command build links what the tests on a real API server run, and shows how far
// it is; "go test" itself would be silent for minutes.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spark-vitals/spark-vitals/e2e/cluster"
)

func main() {
	for folder, name := range map[string]string{"e2e/kubernetes/controlplane": "controlplane", "cmd/spark-vitals": "spark-vitals"} {
		if _, err := cluster.Build(context.Background(), folder, name, os.Stderr); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

package chart

import (
	"testing"

	"log/slog"

	"github.com/spark-vitals/spark-vitals/certs"
)

// trust runs what the chart's hook runs.
func trust(t *testing.T, namespace, configuration string) {
	t.Helper()
	if err := certs.Trust(t.Context(), admin, namespace, configuration+"-certs", configuration, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
}

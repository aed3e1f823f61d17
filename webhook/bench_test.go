package webhook

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/spark-vitals/spark-vitals/internal/captured"
	"github.com/spark-vitals/spark-vitals/policy"
)

// BenchmarkReview is of what a handler alone takes; "make bench" compares it with
// others.
func BenchmarkReview(b *testing.B) {
	w := &server{Config: Config{Log: slog.New(slog.DiscardHandler)}}
	w.ready.Store(true)
	handler := w.reviews(&Handler{Policy: policy.Default(), Metrics: NewMetrics(prometheus.NewRegistry()), Log: w.Log})
	for _, name := range []string{"spark-3.5.9/driver", "spark-3.5.9/executor"} {
		body := captured.Named(name).JSON
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				request := httptest.NewRequest(http.MethodPost, "/mutate", bytes.NewReader(body))
				request.Header.Set("Content-Type", "application/json")
				answer := httptest.NewRecorder()
				handler.ServeHTTP(answer, request)
				if answer.Code != http.StatusOK {
					b.Fatal(answer.Code)
				}
			}
		})
	}
}

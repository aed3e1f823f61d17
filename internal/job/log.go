package job

import (
	"io"
	"log/slog"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/spark-vitals/spark-vitals/internal/bounded"
)

// Log returns the job's log. It writes JSON lines, also for the libraries: client-go logs
// through klog, and controller-runtime through logr.
func (f *Flags) Log(to io.Writer) *slog.Logger {
	handler := slog.NewJSONHandler(to, &slog.HandlerOptions{Level: &f.LogLevel, ReplaceAttr: shorten})
	ctrllog.SetLogger(logr.FromSlogHandler(handler))
	log := slog.New(handler)
	klog.SetSlogLogger(log)
	return log
}

// shorten cuts values that users may have chosen. The API server's errors repeat the
// names that a client sent.
func shorten(_ []string, a slog.Attr) slog.Attr {
	if a.Key == "stack" { // our own
		return a
	}
	switch value := a.Value.Any().(type) {
	case string:
		a.Value = slog.StringValue(bounded.Text(value))
	case error:
		a.Value = slog.StringValue(bounded.Text(value.Error()))
	}
	return a
}

// LimitMemory makes the garbage collector keep the process below nine tenths of its
// container's limit, so a burst costs CPU and does not end the process. It sets what
// GOMEMLIMIT sets, unless that is set.
func LimitMemory(log *slog.Logger) {
	if _, err := memlimit.Set(); err != nil {
		log.Info("the container's memory limit is not known, so GOMEMLIMIT is not set", "error", err)
	}
}

package main

import (
	"io"
	"log/slog"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/go-logr/logr"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/spark-vitals/spark-vitals/internal/bounded"
)

// logger logs JSON lines, for us and for the libraries that log through logr.
func logger(to io.Writer, level slog.Leveler) *slog.Logger {
	handler := slog.NewJSONHandler(to, &slog.HandlerOptions{Level: level, ReplaceAttr: shorten})
	ctrllog.SetLogger(logr.FromSlogHandler(handler))
	return slog.New(handler)
}

// shorten cuts values that users may have chosen: the API server's errors repeat the
// names that they sent.
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

// limitMemory makes the garbage collector keep the process below nine tenths of its
// container's limit, so a burst costs CPU and does not end the process. It sets what
// GOMEMLIMIT sets, unless that is set.
func limitMemory(log *slog.Logger) {
	if _, err := memlimit.Set(); err != nil {
		log.Info("the container's memory limit is not known, so GOMEMLIMIT is not set", "error", err)
	}
}

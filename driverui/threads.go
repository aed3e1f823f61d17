package driverui

import (
	"context"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/spark-vitals/spark-vitals/internal/bounded"
	"github.com/spark-vitals/spark-vitals/spark"
)

// maxFrames is how many frames of a stack are kept, from the innermost.
const maxFrames = 128

// Thread is a thread of the driver (api.scala, ThreadStackTrace).
type Thread struct {
	ID    int64
	Name  string
	State string // as in java.lang.Thread.State
	// Stack begins with the frame that runs: "java.lang.Thread.sleep(Thread.java:10)".
	Stack []string
	// BlockedBy is the ID of the thread that owns the lock for which this one waits, or 0.
	BlockedBy int64
}

// Threads asks a driver for its threads. It takes the driver some 0.2 s.
func (c *Client) Threads(ctx context.Context, driver spark.Pod) ([]Thread, error) {
	var all []Thread
	err := c.ask(ctx, driver, "/executors/driver/threads", maxToken, func(d *jsontext.Decoder) (err error) {
		all, err = readThreads(d)
		return err
	})
	return all, err
}

func readThreads(d *jsontext.Decoder) (all []Thread, err error) {
	err = each(d, func() error {
		var t Thread
		err := fields(d, func(name string) error {
			switch name {
			case "threadId":
				return value(d, &t.ID)
			case "threadName":
				return text(d, &t.Name)
			case "threadState":
				return text(d, &t.State)
			case "blockedByThreadId":
				return value(d, &t.BlockedBy)
			case "stackTrace":
				return t.readStack(d)
			}
			return d.SkipValue()
		})
		if len(all) < maxElements {
			all = append(all, t)
		}
		return err
	})
	return all, err
}

func text(d *jsontext.Decoder, into *string) error {
	err := value(d, into)
	*into = bounded.Cut(*into, maxText)
	return err
}

// readStack reads {"elems": ["..."]}.
func (t *Thread) readStack(d *jsontext.Decoder) error {
	if d.PeekKind() != '{' {
		return d.SkipValue()
	}
	return fields(d, func(name string) error {
		if name != "elems" || d.PeekKind() != '[' {
			return d.SkipValue()
		}
		return each(d, func() error {
			if len(t.Stack) >= maxFrames {
				return d.SkipValue()
			}
			var frame string
			err := text(d, &frame)
			frame, _, _ = strings.Cut(frame, "\n") // since Spark 4.0 the locks follow
			t.Stack = append(t.Stack, frame)
			return err
		})
	})
}

package driverui

import (
	"context"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/spark-vitals/spark-vitals/spark"
)

// Peaks are the highest amounts of memory that an executor has measured, each for itself,
// in bytes (ExecutorMetricType.scala). They are as old as its last heartbeat.
type Peaks struct {
	// Heap is what the JVM's heap held, garbage included.
	Heap int64
	// OffHeap is what the JVM used for itself: metaspace and compiled code.
	OffHeap int64
	// Direct and Mapped are buffers of the JVM outside of its heap.
	Direct, Mapped int64
	// UnifiedOffHeap is what Spark stored and executed in spark.memory.offHeap.size.
	UnifiedOffHeap int64
	// JVM, Python and Other are the resident memory of the container's processes, 0 if
	// spark.executor.processTreeMetrics.enabled is false.
	JVM, Python, Other int64
}

// Executors is what executors measured, by their numbers. Those that sent no heartbeat
// have zero Peaks. Not all of a large application are in it.
type Executors struct {
	Of map[int64]Peaks
	// MaxHeap is the highest Heap of all executors that the driver lists.
	MaxHeap int64
}

// maxOthers is how many executors are kept that nobody asked about.
const maxOthers = 256

// Peaks asks a driver for what its executors measured. All are in the answer that want
// returns true for and that the driver lists, which is the living ones and the last dead
// ones (spark.ui.retainedDeadExecutors).
func (c *Client) Peaks(ctx context.Context, driver spark.Pod, want func(executor int64) bool) (all Executors, err error) {
	err = c.ask(ctx, driver, "/allexecutors", maxToken, func(d *jsontext.Decoder) (err error) {
		all, err = readPeaks(d, want)
		return err
	})
	return all, err
}

func readPeaks(d *jsontext.Decoder, want func(int64) bool) (Executors, error) {
	all, others := Executors{Of: map[int64]Peaks{}}, 0
	err := eachExecutor(d, func(e *Executor) {
		if e.IsDriver {
			return
		}
		all.MaxHeap = max(all.MaxHeap, e.Peaks.Heap)
		if want(e.ID) || others < maxOthers {
			all.Of[e.ID] = e.Peaks
			others++
		}
	})
	return all, err
}

// Executor is an executor that a driver lists, or the driver itself.
type Executor struct {
	ID       int64 // 0 of the driver
	IsDriver bool
	Dead     bool
	Peaks    Peaks
}

// EachExecutor asks a driver for what it and its executors measured, and calls a function
// with each, so that however many there are, none is left out. If it fails, the function
// may have got some.
func (c *Client) EachExecutor(ctx context.Context, driver spark.Pod, do func(*Executor)) error {
	return c.ask(ctx, driver, "/allexecutors", maxToken, func(d *jsontext.Decoder) error { return eachExecutor(d, do) })
}

func eachExecutor(d *jsontext.Decoder, do func(*Executor)) error {
	return each(d, func() error {
		var e Executor
		err := fields(d, func(name string) error {
			switch name {
			case "id":
				var text string
				err := value(d, &text)
				e.ID, e.IsDriver = executorID(text), text == "driver"
				return err
			case "isActive":
				alive := true
				err := value(d, &alive)
				e.Dead = !alive
				return err
			case "peakMemoryMetrics":
				return e.Peaks.read(d)
			}
			return d.SkipValue()
		})
		if err == nil && (e.IsDriver || e.ID > 0) {
			do(&e)
		}
		return err
	})
}

// Tasks is how many tasks run, and how many were ever started, on the executors that a
// driver has now.
type Tasks struct{ Running, Started int64 }

// Tasks asks a driver for its tasks.
func (c *Client) Tasks(ctx context.Context, driver spark.Pod) (tasks Tasks, err error) {
	sums := map[string]*int64{"activeTasks": &tasks.Running, "totalTasks": &tasks.Started}
	err = c.ask(ctx, driver, "/executors", maxToken, func(d *jsontext.Decoder) error {
		return each(d, func() error {
			return fields(d, func(name string) error {
				sum := sums[name]
				if sum == nil {
					return d.SkipValue()
				}
				count := int64(0)
				err := value(d, &count)
				*sum += min(max(count, 0), 1<<40)
				return err
			})
		})
	})
	return tasks, err
}

// executorID returns the number of an executor, which is 1 or more, or 0 for the driver.
func executorID(text string) int64 {
	if id, err := strconv.ParseInt(text, 10, 32); err == nil && id > 0 {
		return id
	}
	return 0
}

func (p *Peaks) read(d *jsontext.Decoder) error {
	if d.PeekKind() != '{' {
		return d.SkipValue()
	}
	return fields(d, func(name string) error {
		var amount int64
		if err := value(d, &amount); err != nil || amount <= 0 || amount > 1<<50 {
			return err
		}
		switch name {
		case "JVMHeapMemory":
			p.Heap = amount
		case "JVMOffHeapMemory":
			p.OffHeap = amount
		case "DirectPoolMemory":
			p.Direct = amount
		case "MappedPoolMemory":
			p.Mapped = amount
		case "OffHeapUnifiedMemory":
			p.UnifiedOffHeap = amount
		case "ProcessTreeJVMRSSMemory":
			p.JVM = amount
		case "ProcessTreePythonRSSMemory":
			p.Python = amount
		case "ProcessTreeOtherRSSMemory":
			p.Other = amount
		}
		return nil
	})
}

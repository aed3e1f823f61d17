package watch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/flowcontrol"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/driverui"
	"github.com/spark-vitals/spark-vitals/internal/job"
	"github.com/spark-vitals/spark-vitals/spark"
	"github.com/spark-vitals/spark-vitals/stall"
)

// apiServer is a cluster behind its API server, which also calls the kubelets.
type apiServer struct {
	api  client.Client
	core kubernetes.Interface // for logs, which api cannot read
	log  *slog.Logger
	ui   *driverui.Client
	// readUI is whether drivers are asked for their threads.
	readUI bool
}

// newAPIServer limits the calls of both clients together.
func newAPIServer(c Config) (*apiServer, error) {
	config := rest.CopyConfig(c.API)
	config.QPS, config.Burst = c.CallsPerSecond, max(1, int(c.CallsPerSecond))
	config.RateLimiter = flowcontrol.NewTokenBucketRateLimiter(config.QPS, config.Burst)
	api, err := client.New(config, client.Options{Scheme: clientgoscheme.Scheme})
	if err != nil {
		return nil, err
	}
	core, err := kubernetes.NewForConfig(config)
	return &apiServer{api: api, core: core, log: c.Log, ui: driverui.New(), readUI: c.ReadDriverUI}, err
}

const (
	answersWithin = 10 * time.Second
	maxTail       = 2 << 20 // bytes; a line of a container's log file has 16 KiB at most
	// manyLines is how many lines are read if the last one may end a thread dump. A driver
	// whose 200 UI threads all hang writes 6,000 lines, twice. As many are searched for an
	// error that a program may have written much after.
	manyLines = 15000
)

// Tail implements cluster. If the last lines are a thread dump, it finds the driver's own
// before it.
func (c *apiServer) Tail(ctx context.Context, of spark.Pod, lines int64) (stall.Tail, error) {
	tail, err := c.readTail(ctx, of, lines)
	if err == nil && tail.MayBeDump {
		if more, err := c.readTail(ctx, of, manyLines); err == nil {
			return more, nil
		}
	}
	return tail, err
}

func (c *apiServer) readTail(ctx context.Context, of spark.Pod, lines int64) (stall.Tail, error) {
	text, err := c.readLog(ctx, of, &corev1.PodLogOptions{TailLines: &lines}, maxTail)
	if err == nil && len(text) == maxTail {
		err = errors.New("the last lines are too long")
	}
	if err != nil {
		return stall.Tail{}, err
	}
	return stall.ReadTail(text)
}

// readLog reads lines of a log, up to most bytes, and keeps the newest, up to maxTail.
func (c *apiServer) readLog(ctx context.Context, of spark.Pod, lines *corev1.PodLogOptions, most int64) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, answersWithin)
	defer cancel()
	lines.Container, lines.Timestamps = of.Container().Name, true
	stream, err := c.core.CoreV1().Pods(of.Namespace).GetLogs(of.Name, lines).Stream(ctx)
	if err != nil {
		return "", err
	}
	defer func() { _ = stream.Close() }()
	return newest(io.LimitReader(stream, most))
}

// newest returns the last bytes of a stream, up to maxTail.
func newest(stream io.Reader) (string, error) {
	var kept []byte
	chunk := make([]byte, 32<<10)
	for {
		n, err := stream.Read(chunk)
		if kept = append(kept, chunk[:n]...); len(kept) > 2*maxTail {
			kept = append(kept[:0], kept[len(kept)-maxTail:]...)
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return string(kept[max(len(kept)-maxTail, 0):]), err
		}
	}
}

// Log implements cluster.
func (c *apiServer) Log(ctx context.Context, of spark.Pod, within time.Duration) (string, error) {
	lines, seconds := int64(manyLines), int64(within.Seconds())
	return c.readLog(ctx, of, &corev1.PodLogOptions{TailLines: &lines, SinceSeconds: &seconds}, 8*maxTail)
}

// UI implements cluster.
func (c *apiServer) UI(ctx context.Context, of spark.Pod) annotations.UIState {
	return c.ui.State(ctx, of)
}

// Answer implements cluster.
func (c *apiServer) Answer(ctx context.Context, of spark.Pod) driverui.Answer {
	if !c.readUI {
		return driverui.Unreached
	}
	return c.ui.Answer(ctx, of)
}

// Tasks implements cluster.
func (c *apiServer) Tasks(ctx context.Context, of spark.Pod) *driverui.Tasks {
	if !c.readUI {
		return nil
	}
	tasks, err := c.ui.Tasks(ctx, of)
	if err != nil {
		c.log.Debug("asking a driver's UI for its tasks", "namespace", of.Namespace, "pod", of.Name, "error", err)
		return nil
	}
	return &tasks
}

// Threads implements cluster.
func (c *apiServer) Threads(ctx context.Context, of spark.Pod) []stall.Thread {
	if !c.readUI {
		return nil
	}
	threads, err := c.ui.Threads(ctx, of)
	if err != nil {
		c.log.Debug("asking a driver's UI for its threads", "namespace", of.Namespace, "pod", of.Name, "error", err)
		return nil
	}
	all := make([]stall.Thread, len(threads))
	for i, t := range threads {
		all[i] = stall.Thread(t)
	}
	return all
}

// Usage implements cluster.
func (c *apiServer) Usage(ctx context.Context, of spark.Pod) (executors *int, cpu *int64) {
	ctx, cancel := context.WithTimeout(ctx, answersWithin)
	defer cancel()
	if n, err := c.executors(ctx, of); err == nil {
		executors = &n
	}
	if n, err := c.millicores(ctx, of); err == nil {
		cpu = &n
	} else if !apierrors.IsNotFound(err) && !meta.IsNoMatchError(err) {
		c.log.Debug("asking the metrics API", "error", err)
	}
	return executors, cpu
}

// executors returns how many executors of the driver's application run. It lists them
// as a table, because their metadata may be of any size.
func (c *apiServer) executors(ctx context.Context, of spark.Pod) (int, error) {
	application := of.Labels[spark.ApplicationLabel]
	if application == "" {
		return 0, errors.New("the driver names no application")
	}
	text, err := c.core.CoreV1().RESTClient().Get().Namespace(of.Namespace).Resource("pods").
		VersionedParams(&metav1.ListOptions{
			LabelSelector:   labels.Set{spark.RoleLabel: string(spark.Executor), spark.ApplicationLabel: application}.String(),
			FieldSelector:   "status.phase=" + string(corev1.PodRunning),
			ResourceVersion: "0", // out of the API server's cache
		}, metav1.ParameterCodec).Param("includeObject", string(metav1.IncludeNone)).
		SetHeader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io").Do(ctx).Raw()
	if err != nil {
		return 0, err
	}
	var table struct {
		Kind string     `json:"kind"`
		Rows []struct{} `json:"rows"`
	}
	if err = json.Unmarshal(text, &table); err == nil && table.Kind != "Table" {
		err = fmt.Errorf("executors are listed as a %q, not as a Table", table.Kind)
	}
	return len(table.Rows), err
}

// millicores returns how much CPU Spark's container uses, if the metrics API is served.
func (c *apiServer) millicores(ctx context.Context, of spark.Pod) (int64, error) {
	usage := &unstructured.Unstructured{}
	usage.SetGroupVersionKind(schema.GroupVersionKind{Group: "metrics.k8s.io", Version: "v1beta1", Kind: "PodMetrics"})
	if err := c.api.Get(ctx, client.ObjectKeyFromObject(of.Pod), usage); err != nil {
		return 0, err
	}
	containers, _, _ := unstructured.NestedSlice(usage.Object, "containers")
	for _, each := range containers {
		container, _ := each.(map[string]any)
		cpu, _, _ := unstructured.NestedString(container, "usage", "cpu")
		if container["name"] == of.Container().Name {
			q, err := resource.ParseQuantity(cpu)
			return q.MilliValue(), err
		}
	}
	return 0, errors.New("the container is not measured")
}

// WriteMark implements cluster.
func (c *apiServer) WriteMark(ctx context.Context, k key, mark *annotations.StallMark) error {
	if mark == nil {
		return job.Annotate(ctx, c.api, k, annotations.Stalled, "")
	}
	return job.Annotate(ctx, c.api, k, annotations.Stalled, mark.String())
}

const (
	normal  = corev1.EventTypeNormal
	warning = corev1.EventTypeWarning
)

// EmitEvent implements cluster.
func (c *apiServer) EmitEvent(ctx context.Context, on key, of *annotations.StallMark, kind, reason, text string) {
	job.Events{Job: name, API: c.api, Log: c.log}.Create(ctx, on, fmt.Sprintf("%s/%d/%s", reason, of.Since.Unix(), of.Confidence), kind, reason, text)
}

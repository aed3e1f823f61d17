package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
)

// Apply creates the objects of a YAML file of the project that do not exist yet.
func (c *ControlPlane) Apply(ctx context.Context, file string) error {
	manifest, err := File(file)
	if err != nil {
		return err
	}
	objects, err := decode(string(manifest))
	if err != nil {
		return err
	}
	return c.create(ctx, objects)
}

func decode(manifest string) (objects []*unstructured.Unstructured, err error) {
	for decoder := yaml.NewYAMLOrJSONDecoder(strings.NewReader(manifest), 4096); ; {
		object := &unstructured.Unstructured{}
		if err := decoder.Decode(&object.Object); errors.Is(err, io.EOF) {
			return objects, nil
		} else if err != nil {
			return nil, fmt.Errorf("reading a manifest: %w", err)
		}
		if len(object.Object) > 0 { // the comment at the head of a file is none
			objects = append(objects, object)
		}
	}
}

func (c *ControlPlane) create(ctx context.Context, objects []*unstructured.Unstructured) error {
	ctrllog.SetLogger(logr.Discard()) // without one it complains
	api, err := client.New(c.Config, client.Options{})
	if err != nil {
		return err
	}
	for _, o := range objects {
		if err := api.Create(ctx, o.DeepCopy()); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("creating %s %s: %w", o.GetKind(), o.GetName(), err)
		}
	}
	return nil
}

// Leader is a running job of spark-vitals that is leader elected.
type Leader struct {
	Log     string // the file
	lock    sync.Mutex
	process *process
	over    bool // no other process follows
}

var (
	building sync.Once
	built    string
	errBuild error
)

// buildOnce builds spark-vitals once per process, because a check whether it is up to
// date takes seconds.
func buildOnce(progress io.Writer) (string, error) {
	building.Do(func() { built, errBuild = Build(context.Background(), "cmd/spark-vitals", "spark-vitals", progress) })
	return built, errBuild
}

// StartReleaser builds spark-vitals and runs its releaser beside the cluster, with the
// service account of its manifest.
func (c *ControlPlane) StartReleaser(ctx context.Context, name, config string, progress io.Writer) (*Leader, error) {
	file := filepath.Join(c.Dir, name+".yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	return c.lead(ctx, name, progress, "releaser", "--config="+file, "--metrics-bind-address=0", "--health-probe-bind-address=0")
}

// StartStallWatch does the same for the stall watch.
func (c *ControlPlane) StartStallWatch(ctx context.Context, name string, progress io.Writer, flags ...string) (*Leader, error) {
	return c.lead(ctx, name, progress, "stallwatch", append([]string{"--health-probe-bind-address=0"}, flags...)...)
}

// lead runs a job until it leads, with the service account of its manifest.
func (c *ControlPlane) lead(ctx context.Context, name string, progress io.Writer, job string, flags ...string) (*Leader, error) {
	binary, err := buildOnce(progress)
	if err != nil {
		return nil, err
	}
	as, err := c.As(ctx, "spark-vitals", "spark-vitals-"+job)
	if err != nil {
		return nil, err
	}
	kubeconfig, err := c.KubeconfigOf(as)
	if err != nil {
		return nil, err
	}
	begin := func() (*process, error) {
		return start(c.Dir, name, false, "/usr/bin/env", append([]string{"KUBECONFIG=" + kubeconfig, binary, job, "--namespace=spark-vitals"}, flags...)...)
	}
	p, err := begin()
	if err != nil {
		return nil, err
	}
	r := &Leader{Log: p.log, process: p}
	ctx, cancel := context.WithTimeout(ctx, patience) // the lease of one that was killed has to end
	defer cancel()
	if err := p.until(ctx, r.leads); err != nil {
		r.Stop()
		return nil, err
	}
	go r.keep(begin)
	return r, nil
}

// keep restarts the job, as a kubelet would, if it ends because it could not renew its
// lease in time: that happens when it or the API server was stopped for 10 s. Any other
// end is a mistake.
func (r *Leader) keep(begin func() (*process, error)) {
	for {
		<-r.process.ended
		r.lock.Lock()
		log, _ := os.ReadFile(r.Log)
		r.over = r.over || !bytes.Contains(log, []byte("leader election lost"))
		if !r.over {
			if p, err := begin(); err == nil {
				r.process = p
			} else {
				r.over = true
			}
		}
		over := r.over
		r.lock.Unlock()
		if over {
			return
		}
	}
}

// last returns the last process, and prevents another restart.
func (r *Leader) last() *process {
	r.lock.Lock()
	defer r.lock.Unlock()
	r.over = true
	return r.process
}

// leads returns nil once the job works.
func (r *Leader) leads(context.Context) error {
	log, err := os.ReadFile(r.Log)
	if err == nil && !bytes.Contains(log, []byte(`"Starting workers"`)) {
		err = errors.New("it does not work yet")
	}
	return err
}

// Stop ends the job as a kubelet would.
func (r *Leader) Stop() { r.last().stop(30 * time.Second) }

// Kill ends the job at once.
func (r *Leader) Kill() { r.last().kill() }

// Memory returns the most memory that the process has used, in bytes.
func (r *Leader) Memory() (bytes int64) { return memory(r.process.cmd.Process.Pid) }

func memory(pid int) (bytes int64) {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if _, after, ok := strings.Cut(string(status), "VmHWM:"); ok {
		_, _ = fmt.Sscan(after, &bytes)
	}
	return bytes << 10
}

package bloat

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/streaming"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/internal/captured"
	"github.com/spark-vitals/spark-vitals/spark"
)

// The number of ordinary pods in a cluster, and the recorder's limit in the chart, in
// bytes.
const (
	ordinary        = 50_000
	limitOfRecorder = 512 << 20
)

// The recorder lists 50,000 executors within the chart's limit, whether or not the API
// server streams lists. The API server is a stand-in with the answers of a real one.
func TestManyPods(t *testing.T) {
	served := httptest.NewServer(&many{pod: executor(t)})
	t.Cleanup(served.CloseClientConnections)
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	config := clientcmdapi.NewConfig()
	config.Clusters["c"] = &clientcmdapi.Cluster{Server: served.URL}
	config.Contexts["c"] = &clientcmdapi.Context{Cluster: "c"}
	config.CurrentContext = "c"
	if err := clientcmd.WriteToFile(*config, kubeconfig); err != nil {
		t.Fatal(err)
	}
	for _, streams := range []string{"true", "false"} {
		t.Run("streams-"+streams, func(t *testing.T) {
			t.Setenv("KUBE_FEATURE_WatchListClient", streams)
			r, err := (&cluster.ControlPlane{Dir: t.TempDir()}).StartRecorder(t.Context(), os.Stderr, kubeconfig)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Kill()
			t.Logf("%d MiB", r.Memory()>>20)
			if used := r.Memory(); used == 0 || used > limitOfRecorder*9/10 {
				t.Errorf("it used %d MiB", used>>20)
			}
		})
	}
}

func executor(t *testing.T) *corev1.Pod {
	t.Helper()
	p, err := cluster.CapturedPod(captured.Named("spark-3.5.9/executor"), namespace)
	if err != nil {
		t.Fatal(err)
	}
	p.Spec.NodeName = "node"
	p.Status = corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: "10.0.0.1", PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}}, HostIP: "10.1.0.1", StartTime: new(metav1.Now()),
		ContainerStatuses: []corev1.ContainerStatus{{
			Name: spark.ExecutorContainer, Ready: true, ContainerID: "containerd://0123456789abcdef", Image: "spark", ImageID: "sha256:0123456789abcdef",
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}},
		}},
	}
	for _, condition := range []corev1.PodConditionType{corev1.PodScheduled, corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady} {
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: condition, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()})
	}
	return p
}

// many serves lists and watches of many pods in one opted-in namespace.
type many struct{ pod *corev1.Pod }

func (m *many) number(i int) *corev1.Pod {
	p := *m.pod
	p.Name, p.UID, p.ResourceVersion = fmt.Sprintf("etl-%08d-exec-%d", i/100, i%100), types.UID(fmt.Sprintf("00000000-0000-0000-0000-%012d", i)), strconv.Itoa(i+1)
	p.Labels = map[string]string{}
	for key, value := range m.pod.Labels {
		p.Labels[key] = value
	}
	p.Labels[spark.ApplicationLabel], p.Labels[spark.ExecutorIDLabel] = fmt.Sprintf("spark-%032d", i/100), strconv.Itoa(i%100+1)
	return &p
}

func (m *many) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	pods := filepath.Base(r.URL.Path) == "pods"
	list, version := runtime.Object(&corev1.NamespaceList{ListMeta: metav1.ListMeta{ResourceVersion: "1"}, Items: []corev1.Namespace{opted()}}), "1"
	if pods {
		version = strconv.Itoa(ordinary)
		from, _ := strconv.Atoi(query.Get("continue"))
		limit, _ := strconv.Atoi(query.Get("limit"))
		page := &corev1.PodList{ListMeta: metav1.ListMeta{ResourceVersion: version}}
		for i := from; i < min(from+limit, ordinary) && !query.Has("watch"); i++ {
			page.Items = append(page.Items, *m.number(i))
		}
		if from+limit < ordinary {
			page.Continue = strconv.Itoa(from + limit)
		}
		list = page
	}
	info, _ := runtime.SerializerInfoForMediaType(scheme.Codecs.SupportedMediaTypes(), runtime.ContentTypeProtobuf)
	encode := scheme.Codecs.EncoderForVersion(info.Serializer, corev1.SchemeGroupVersion)
	if !query.Has("watch") {
		w.Header().Set("Content-Type", runtime.ContentTypeProtobuf)
		_ = encode.Encode(list, w)
		return
	}
	w.Header().Set("Content-Type", runtime.ContentTypeProtobuf+";stream=watch")
	events := streaming.NewEncoder(info.StreamSerializer.NewFrameWriter(w), scheme.Codecs.EncoderForVersion(info.StreamSerializer, corev1.SchemeGroupVersion))
	send := func(kind string, o runtime.Object) {
		raw, err := runtime.Encode(encode, o)
		if err == nil {
			err = events.Encode(&metav1.WatchEvent{Type: kind, Object: runtime.RawExtension{Raw: raw}})
		}
		if err != nil && r.Context().Err() == nil {
			panic(err)
		}
	}
	if query.Get("sendInitialEvents") == "true" {
		end := metav1.ObjectMeta{ResourceVersion: version, Annotations: map[string]string{metav1.InitialEventsAnnotationKey: "true"}}
		if pods {
			for i := range ordinary {
				send("ADDED", m.number(i))
			}
			send("BOOKMARK", &corev1.Pod{ObjectMeta: end})
		} else {
			send("ADDED", new(opted()))
			send("BOOKMARK", &corev1.Namespace{ObjectMeta: end})
		}
	}
	w.(http.Flusher).Flush()
	<-r.Context().Done()
}

func opted() corev1.Namespace {
	return corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace, ResourceVersion: "1", Labels: map[string]string{annotations.Inject: "enabled"}}}
}

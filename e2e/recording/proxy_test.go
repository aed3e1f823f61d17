package recording

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spark-vitals/spark-vitals/e2e/helm"
)

// trouble is a proxy to the API server that delays and refuses calls unless it is calm.
// Of each twenty calls that are not watches, five fail before the API server gets them,
// one fails although the API server did it, and four are late. Watches break at any
// moment.
type trouble struct {
	to             *httputil.ReverseProxy
	calm           atomic.Bool
	failed, broken atomic.Int64
	before         func(*http.Request)      // sees each call first
	refuses        func(*http.Request) bool // besides
	mutex          sync.Mutex
	there          context.Context // until the API server cannot be reached
	goAway         context.CancelFunc
	watches        sync.WaitGroup
}

// aWhile is the longest time that a watch lasts.
const aWhile = 3 * time.Second

func (p *trouble) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mutex.Lock()
	there := p.there
	if there.Err() == nil && r.URL.Query().Has("watch") {
		p.watches.Add(1)
		defer p.watches.Done()
	}
	p.mutex.Unlock()
	if p.before != nil {
		p.before(r)
	}
	switch {
	case there.Err() != nil:
		p.failed.Add(1)
		if rand.IntN(2) == 0 {
			panic(http.ErrAbortHandler)
		}
		http.Error(w, "no API server is there", http.StatusServiceUnavailable)
	case r.URL.Query().Has("watch"):
		p.watch(w, r, there)
	case p.refuses != nil && p.refuses(r):
		p.refuse(w, http.StatusInternalServerError, metav1.StatusReasonInternalError)
	case p.calm.Load():
		p.to.ServeHTTP(w, r)
	default:
		p.trouble(w, r)
	}
}

func (p *trouble) watch(w http.ResponseWriter, r *http.Request, there context.Context) {
	ctx, breakOff := context.WithCancel(r.Context())
	defer breakOff()
	defer context.AfterFunc(there, breakOff)()
	defer time.AfterFunc(rand.N(aWhile), func() {
		if !p.calm.Load() {
			p.broken.Add(1)
			breakOff()
		}
	}).Stop()
	p.to.ServeHTTP(w, r.WithContext(ctx))
}

func (p *trouble) trouble(w http.ResponseWriter, r *http.Request) {
	switch rand.IntN(20) {
	case 0, 1:
		w.Header().Set("Retry-After", "1") // client-go then waits and calls again by itself
		p.refuse(w, http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests)
	case 2, 3:
		p.refuse(w, http.StatusInternalServerError, metav1.StatusReasonInternalError)
	case 4:
		p.refuse(w, http.StatusConflict, metav1.StatusReasonConflict)
	case 5: // as after a timeout of etcd
		p.to.ServeHTTP(httptest.NewRecorder(), r)
		if rand.IntN(2) == 0 {
			w.Header().Set("Retry-After", "1")
		}
		p.refuse(w, http.StatusInternalServerError, metav1.StatusReasonServerTimeout)
	case 6, 7, 8, 9:
		time.Sleep(rand.N(300 * time.Millisecond))
		p.to.ServeHTTP(w, r)
	default:
		p.to.ServeHTTP(w, r)
	}
}

// away makes the API server unreachable. It returns when all watches are broken, so
// they do not report what happens afterwards.
func (p *trouble) away() {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.goAway()
	p.watches.Wait()
}

// back makes the API server reachable again.
func (p *trouble) back() {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.there, p.goAway = context.WithCancel(context.Background())
}

func (p *trouble) refuse(w http.ResponseWriter, code int, reason metav1.StatusReason) {
	p.failed.Add(1)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   metav1.StatusFailure, Code: int32(code), Reason: reason, Message: "on purpose",
	})
}

// troubled returns a kubeconfig of the recorder that goes through the proxy.
func troubled(t *testing.T) (kubeconfig string, proxy *trouble) {
	t.Helper()
	authorities := x509.NewCertPool()
	authorities.AppendCertsFromPEM(controlPlane.Authority.PEM)
	proxy = &trouble{to: httputil.NewSingleHostReverseProxy(must(url.Parse(controlPlane.Config.Host))(t))}
	proxy.back()
	proxy.to.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: authorities}, MaxIdleConnsPerHost: 50}
	proxy.to.FlushInterval, proxy.to.ErrorLog = -1, log.New(io.Discard, "", 0) // of recorders that were killed
	if err := controlPlane.Authority.Issue(controlPlane.Dir, "trouble", pkix.Name{CommonName: "trouble"}, "127.0.0.1"); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(controlPlane.Dir, "trouble")
	server := httptest.NewUnstartedServer(proxy)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{must(tls.LoadX509KeyPair(key+".crt", key+".key"))(t)}}
	server.StartTLS()
	t.Cleanup(server.CloseClientConnections)
	return must(controlPlane.Allow(t.Context(), must(helm.Rights("spark-vitals", "recorder", nil))(t), server.URL))(t), proxy
}

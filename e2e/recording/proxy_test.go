package recording

import (
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
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// trouble is an API server that is slow and refuses: of each twenty calls that
// are no watches, five fail before anything was done, one fails although it was
// done, and four come late.
type trouble struct {
	to     *httputil.ReverseProxy
	failed atomic.Int64
}

func (p *trouble) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Has("watch") {
		p.to.ServeHTTP(w, r)
		return
	}
	switch rand.IntN(20) {
	case 0, 1:
		p.refuse(w, http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests)
	case 2, 3:
		p.refuse(w, http.StatusInternalServerError, metav1.StatusReasonInternalError)
	case 4:
		p.refuse(w, http.StatusConflict, metav1.StatusReasonConflict)
	case 5:
		p.to.ServeHTTP(httptest.NewRecorder(), r)
		p.refuse(w, http.StatusInternalServerError, metav1.StatusReasonInternalError)
	case 6, 7, 8, 9:
		time.Sleep(rand.N(300 * time.Millisecond))
		p.to.ServeHTTP(w, r)
	default:
		p.to.ServeHTTP(w, r)
	}
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

// troubled is a kubeconfig of the recorder that leads through trouble.
func troubled(t *testing.T) (kubeconfig string, proxy *trouble) {
	t.Helper()
	authorities := x509.NewCertPool()
	authorities.AppendCertsFromPEM(controlPlane.Authority.PEM)
	proxy = &trouble{to: httputil.NewSingleHostReverseProxy(must(url.Parse(controlPlane.Config.Host))(t))}
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
	return must(controlPlane.AllowRecorder(t.Context(), "spark-vitals", server.URL, role))(t), proxy
}

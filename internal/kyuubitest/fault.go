package kyuubitest

import (
	"net/http"
	"net/http/httptest"
	"time"
)

// Fault stands before a server. It answers itself and returns nil, or returns
// where the server is to answer.
type Fault func(http.ResponseWriter, *http.Request) http.ResponseWriter

// Fail makes a server fail, or work again with nil.
func (s *Server) Fail(f Fault) {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.fault = f
}

// Hang never answers and does nothing.
func Hang(_ http.ResponseWriter, r *http.Request) http.ResponseWriter {
	<-r.Context().Done()
	return nil
}

// Slow answers after a while.
func Slow(by time.Duration) Fault {
	return func(w http.ResponseWriter, r *http.Request) http.ResponseWriter {
		select {
		case <-time.After(by):
			return w
		case <-r.Context().Done():
			return nil
		}
	}
}

// Gone breaks the connection and does nothing, as a server that has died.
func Gone(http.ResponseWriter, *http.Request) http.ResponseWriter {
	panic(http.ErrAbortHandler)
}

// Broken answers with a status, as something in front of a server.
func Broken(status int) Fault {
	return func(w http.ResponseWriter, _ *http.Request) http.ResponseWriter {
		http.Error(w, "upstream connect error", status)
		return nil
	}
}

// DoneUnsaid does what it is asked and breaks the connection before the answer,
// as a server that dies between the two.
func (s *Server) DoneUnsaid() Fault {
	return func(_ http.ResponseWriter, r *http.Request) http.ResponseWriter {
		s.Fail(nil)
		s.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	}
}

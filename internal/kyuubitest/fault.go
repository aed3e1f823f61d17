package kyuubitest

import (
	"net/http"
	"net/http/httptest"
	"time"
)

// Fault gets a request before the server. It answers and returns nil, or returns the
// writer to which the server answers.
type Fault func(http.ResponseWriter, *http.Request) http.ResponseWriter

// Fail makes a server fail, or work again with nil.
func (s *Server) Fail(f Fault) {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.fault = f
}

// Hang is a fault that never answers and does nothing.
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

// Gone breaks the connection and does nothing, like a server that has died.
func Gone(http.ResponseWriter, *http.Request) http.ResponseWriter {
	panic(http.ErrAbortHandler)
}

// Broken answers with a status, like something in front of a server.
func Broken(status int) Fault {
	return func(w http.ResponseWriter, _ *http.Request) http.ResponseWriter {
		http.Error(w, "upstream connect error", status)
		return nil
	}
}

// DoneUnsaid does what it is asked and breaks the connection before the answer, like a
// server that dies between the two.
func (s *Server) DoneUnsaid() Fault {
	return func(_ http.ResponseWriter, r *http.Request) http.ResponseWriter {
		s.Fail(nil)
		s.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	}
}

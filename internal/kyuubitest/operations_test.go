package kyuubitest

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A statement runs until its engine dies. Then its client can read the error as long as
// the session exists. Afterwards the answer is the one of Kyuubi 1.12.0: 404 Invalid
// OperationHandle.
func TestOperations(t *testing.T) {
	const session, statement = "11111111-2222-3333-4444-555555555555", "22222222-2222-3333-4444-555555555555"
	s := &Server{}
	s.Open(Session{Identifier: session, EngineID: "spark-1", SessionType: "INTERACTIVE"})
	s.Submit(Operation{Identifier: statement, Session: session, Log: []string{"started"}})
	call := func(method, path string) (status int, body string) {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, "/api/v1"+path, nil))
		return w.Code, w.Body.String()
	}
	state := func() string {
		_, body := call(http.MethodGet, "/operations/"+statement+"/event")
		var said struct {
			State     string
			Exception struct{ Message string }
		}
		decode(t, body, &said)
		return said.State + " " + said.Exception.Message
	}
	if got := state(); got != "RUNNING_STATE " {
		t.Error(got)
	}
	s.Engine("spark-1", Dead)
	if got := state(); got != "ERROR_STATE "+brokenSocket {
		t.Error(got)
	}
	var log struct{ LogRowSet []string }
	_, body := call(http.MethodGet, "/operations/"+statement+"/log")
	if err := json.Unmarshal([]byte(body), &log); err != nil || len(log.LogRowSet) != 2 {
		t.Error(body, err)
	}
	call(http.MethodDelete, "/admin/sessions/"+session)
	for _, what := range []string{"event", "log"} {
		if status, body := call(http.MethodGet, "/operations/"+statement+"/"+what); status != http.StatusNotFound || !strings.Contains(body, "Invalid OperationHandle ["+statement+"]") {
			t.Error(status, body)
		}
	}
}

package kyuubitest

import (
	"fmt"
	"net/http"
	"strings"
)

// Operation is a statement of a session, as GET /api/v1/operations shows it to its
// client. It exists as long as its session.
type Operation struct {
	Identifier string // a UUID
	Session    string // its identifier
	Log        []string

	failed bool
}

// brokenSocket is the error of a statement if its engine died.
const brokenSocket = "Socket is closed by peer."

// Submit adds an operation to a session. It runs until its engine dies.
func (s *Server) Submit(o Operation) {
	s.lock.Lock()
	defer s.lock.Unlock()
	if s.operations == nil {
		s.operations = map[string]*Operation{}
	}
	s.operations[o.Identifier] = &o
}

// fail makes the operations of an engine's sessions fail. The caller holds the lock.
func (s *Server) fail(application string) {
	for _, session := range s.sessions {
		for _, o := range s.operations {
			if session.EngineID == application && session.Identifier == o.Session {
				o.failed = true
				o.Log = append(o.Log, "org.apache.kyuubi.KyuubiSQLException: "+brokenSocket)
			}
		}
	}
}

// operation answers GET /operations/{handle}/event and /log.
func (s *Server) operation(w http.ResponseWriter, path string) {
	s.lock.Lock()
	defer s.lock.Unlock()
	handle, what, _ := strings.Cut(path, "/")
	o := s.operations[handle]
	title := map[string]string{"event": "Error getting an operation event", "log": "Error getting operation log for operation handle " + handle}[what]
	switch {
	case title == "":
		say(w, http.StatusNotFound, "HTTP 404 Not Found")
	case !uuid.MatchString(handle):
		say(w, http.StatusNotFound, title+": java.lang.IllegalArgumentException: Invalid UUID string: "+handle)
	case o == nil:
		say(w, http.StatusNotFound, fmt.Sprintf("%s: org.apache.kyuubi.KyuubiSQLException: Invalid OperationHandle [%s]", title, handle))
	case what == "log":
		writeJSON(w, http.StatusOK, map[string]any{"logRowSet": o.Log, "rowCount": len(o.Log)})
	case o.failed:
		writeJSON(w, http.StatusOK, map[string]any{"statementId": handle, "sessionId": o.Session, "state": "ERROR_STATE", "exception": map[string]string{"message": brokenSocket}})
	default:
		writeJSON(w, http.StatusOK, map[string]any{"statementId": handle, "sessionId": o.Session, "state": "RUNNING_STATE", "exception": nil})
	}
}

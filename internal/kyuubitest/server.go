package kyuubitest

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// Session is a session as a server lists it.
type Session struct {
	Identifier      string            `json:"identifier"`
	RemoteID        string            `json:"remoteId"`
	User            string            `json:"user"`
	IPAddr          string            `json:"ipAddr"`
	Conf            map[string]string `json:"conf"`
	CreateTime      int64             `json:"createTime"`
	Duration        int64             `json:"duration"`
	IdleTime        int64             `json:"idleTime"`
	Exception       string            `json:"exception"`
	SessionType     string            `json:"sessionType"`
	KyuubiInstance  string            `json:"kyuubiInstance"`
	EngineID        string            `json:"engineId"`
	EngineName      string            `json:"engineName"`
	EngineURL       string            `json:"engineUrl"`
	SessionName     string            `json:"sessionName"`
	TotalOperations int               `json:"totalOperations"`
}

// Health is an engine's state, as its sessions find it.
type Health int

// The states of an engine. Alive is the default.
const (
	Alive  Health = iota
	Dead          // closing a session fails, and has closed it
	Frozen        // closing a session takes for ever, and has closed it
)

// Server is one Kyuubi server. Set its fields before it serves.
type Server struct {
	// Passwords are those of users, and Tokens are users of bearer tokens. Without
	// any, everybody is anonymous and an administrator, as with
	// kyuubi.authentication=NONE.
	Passwords, Tokens map[string]string
	Administrators    []string
	// Old makes it answer like a server before 1.10: an unknown session is an error
	// 500.
	Old bool

	lock       sync.Mutex
	sessions   []Session
	operations map[string]*Operation // by identifier
	health     map[string]Health     // by engineId
	fault      Fault
}

// Open opens a session.
func (s *Server) Open(session Session) {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.sessions = append(s.sessions, session)
}

// Sessions returns the open sessions.
func (s *Server) Sessions() []Session {
	s.lock.Lock()
	defer s.lock.Unlock()
	return slices.Clone(s.sessions)
}

// Engine sets the state of an engine. The operations of a dead one have failed.
func (s *Server) Engine(application string, h Health) {
	s.lock.Lock()
	defer s.lock.Unlock()
	if s.health == nil {
		s.health = map[string]Health{}
	}
	s.health[application] = h
	if h == Dead {
		s.fail(application)
	}
}

// ServeHTTP answers as a Kyuubi server.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.lock.Lock()
	fault := s.fault
	s.lock.Unlock()
	if fault != nil {
		if w = fault(w, r); w == nil {
			return
		}
	}
	w.Header().Set("Server", "Jetty(9.4.57.v20241219)")
	path, isAPI := strings.CutPrefix(r.URL.Path, "/api/v1")
	if !isAPI {
		say(w, http.StatusNotFound, "HTTP 404 Not Found")
		return
	}
	user, ok := s.authenticate(w, r)
	if !ok {
		return
	}
	handle, isSession := strings.CutPrefix(path, "/admin/sessions/")
	operation, isOperation := strings.CutPrefix(path, "/operations/")
	switch {
	case r.Method == http.MethodGet && path == "/admin/sessions":
		s.listSessions(w, r.URL.Query(), user)
	case r.Method == http.MethodDelete && isSession:
		s.closeSession(w, r, handle, user)
	case r.Method == http.MethodGet && isOperation:
		s.operation(w, operation)
	default:
		say(w, http.StatusNotFound, "HTTP 404 Not Found")
	}
}

func (s *Server) listSessions(w http.ResponseWriter, query url.Values, user string) {
	if !s.administrates(user) {
		say(w, http.StatusForbidden, user+" is not allowed to list all live sessions")
		return
	}
	listed := []Session{}
	for _, session := range s.Sessions() {
		users, kind := query.Get("users"), query.Get("sessionType")
		if (users == "" || slices.Contains(strings.Split(users, ","), session.User)) && (kind == "" || kind == session.SessionType) {
			listed = append(listed, session)
		}
	}
	writeJSON(w, http.StatusOK, listed)
}

var uuid = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// closeSession removes the session first and calls its engine then. So the session is
// gone, whatever the call returns.
func (s *Server) closeSession(w http.ResponseWriter, r *http.Request, handle, user string) {
	if !s.administrates(user) {
		say(w, http.StatusForbidden, user+" is not allowed to close the session "+handle)
		return
	}
	if !uuid.MatchString(handle) {
		say(w, http.StatusInternalServerError, "Invalid UUID string: "+handle)
		return
	}
	health, found := s.remove(handle)
	switch {
	case !found && s.Old:
		say(w, http.StatusInternalServerError, "Invalid SessionHandle ["+handle+"]")
	case !found:
		say(w, http.StatusNotFound, "Invalid session handle: "+handle)
	case health == Dead:
		say(w, http.StatusInternalServerError, "Error while cleaning up the engine resources")
	case health == Frozen:
		<-r.Context().Done()
	default:
		writeText(w, "Session "+handle+" is closed successfully.")
	}
}

func (s *Server) remove(handle string) (h Health, found bool) {
	s.lock.Lock()
	defer s.lock.Unlock()
	i := slices.IndexFunc(s.sessions, func(session Session) bool { return session.Identifier == handle })
	if i < 0 {
		return Alive, false
	}
	h = s.health[s.sessions[i].EngineID]
	maps.DeleteFunc(s.operations, func(_ string, o *Operation) bool { return o.Session == handle })
	s.sessions = slices.Delete(s.sessions, i, i+1)
	return h, true
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	data, err := json.Marshal(value)
	if err != nil {
		panic(err) // structs of texts and numbers
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(data)
}

// writeText answers with a text and says that it is JSON, as Kyuubi does.
func writeText(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, text)
}

func say(w http.ResponseWriter, status int, message string) {
	writeJSON(w, status, map[string]string{"message": message})
}

package kyuubitest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// exchange is a request to a real Kyuubi and its response, as curl -i showed it.
type exchange struct {
	title, method, url   string
	user, password, auth string // -u, and the Authorization of -H
	status               int    // 0 where no answer came
	contentType, body    string
}

// The fields that the stand-in leaves out, because no releaser needs them.
var notOurs = regexp.MustCompile(`/api/v1/(ping|version|admin/server|sessions/)|kill=true`)

// Every recorded request gets the recorded response from a server in the state that the
// response shows.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("transcripts/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no transcripts", err)
	}
	compared := 0
	for _, file := range files {
		for _, x := range readTranscript(t, file) {
			if notOurs.MatchString(x.url) {
				continue
			}
			compared++
			t.Run(filepath.Base(file)+"/"+x.title, func(t *testing.T) { x.replay(t, strings.Contains(file, "auth")) })
		}
	}
	if compared < 60 {
		t.Errorf("only %d exchanges were compared", compared)
	}
}

func (x *exchange) replay(t *testing.T, authenticated bool) {
	tree := &Tree{}
	s := &Server{Registry: tree, GroupOf: map[string]string{"root": "root"}}
	if authenticated {
		s.Passwords = map[string]string{"ops": "pw-ops", "alice": "pw-alice", "bob": "pw-bob"}
		s.Tokens, s.Administrators = map[string]string{"tok-ops": "ops"}, []string{"ops"}
	}
	x.prepare(t, s, tree)
	ctx, cancel := context.WithCancel(t.Context())
	if x.status == 0 {
		cancel() // curl gave up
	}
	defer cancel()
	request := httptest.NewRequestWithContext(ctx, x.method, x.url, nil)
	if x.user != "" {
		request.SetBasicAuth(x.user, x.password)
	}
	if x.auth != "" {
		request.Header.Set("Authorization", x.auth)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, request)
	if x.status == 0 {
		if w.Body.Len() > 0 || len(s.Sessions()) > 0 {
			t.Errorf("answered %q, %d sessions are left", w.Body, len(s.Sessions()))
		}
		return
	}
	if w.Code != x.status || w.Header().Get("Content-Type") != x.contentType {
		t.Errorf("%d %s, want %d %s", w.Code, w.Header().Get("Content-Type"), x.status, x.contentType)
	}
	if diff := cmp.Diff(canonical(x.body), canonical(w.Body.String())); diff != "" {
		t.Error(diff)
	}
}

// canonical returns a JSON value, in which the order of fields does not matter.
func canonical(body string) any {
	var value any
	if json.Unmarshal([]byte(body), &value) == nil {
		return value
	}
	return strings.TrimRight(body, "\n")
}

var deletedText = regexp.MustCompile(`Engine (/\S+) refId=(\S+) is deleted`)

// prepare prepares the state that the response shows.
func (x *exchange) prepare(t *testing.T, s *Server, tree *Tree) {
	u, _ := url.Parse(x.url)
	handle := filepath.Base(u.Path)
	switch {
	case x.status == 0 && strings.Contains(x.url, "/sessions/"):
		s.Open(Session{Identifier: handle, EngineID: "e"})
		s.Engine("e", Frozen)
	case x.method == http.MethodDelete && strings.Contains(x.url, "/sessions/") && (x.status == 200 || strings.Contains(x.body, "cleaning up")):
		s.Open(Session{Identifier: handle, EngineID: "e"})
		s.Engine("e", map[int]Health{200: Alive, 500: Dead}[x.status])
	case x.method == http.MethodDelete:
		for _, m := range deletedText.FindAllStringSubmatch(x.body, -1) {
			mustRegister(t, tree, m[1]+"/serverUri=10.0.0.1:1;refId="+m[2]+";sequence=")
		}
	case x.status == 200 && strings.HasSuffix(u.Path, "/sessions"):
		var sessions []Session
		decode(t, x.body, &sessions)
		for _, session := range sessions {
			s.Open(session)
		}
	case x.status == 200 && strings.HasSuffix(u.Path, "/engine"):
		var engines []engine
		decode(t, x.body, &engines)
		for _, e := range engines {
			tree.sequence, _ = strconv.Atoi(e.Attributes["sequence"])
			mustRegister(t, tree, e.Namespace+"/"+nodeName(e.Attributes))
		}
	}
}

func nodeName(attributes map[string]string) string {
	var pairs []string
	for key, value := range attributes {
		if key != "sequence" {
			pairs = append(pairs, key+"="+value)
		}
	}
	slices.Sort(pairs)
	return strings.Join(pairs, ";") + ";sequence="
}

func mustRegister(t *testing.T, tree *Tree, node string) {
	t.Helper()
	if _, err := tree.Register(node); err != nil {
		t.Fatal(err)
	}
}

func decode(t *testing.T, body string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(body), into); err != nil {
		t.Fatal(err)
	}
}

var curl = regexp.MustCompile(`^### (?:\S+ )?curl -i (?:-m \d+ )?(?:-u (\w+):(\S*) )?(?:-H (?:Authorization: (.+?)|Content-Type: \S+) )?(?:-X (\w+) )?(http://\S+)`)

func readTranscript(t *testing.T, file string) (all []exchange) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	title := ""
	for block := range strings.SplitSeq(string(data), "\n### time_total") {
		for line := range strings.Lines(block) {
			line = strings.TrimSpace(line)
			switch m := curl.FindStringSubmatch(line); {
			case m != nil:
				x := exchange{title: title, user: m[1], password: m[2], auth: m[3], method: m[4], url: m[5]}
				if x.method == "" {
					x.method = http.MethodGet
				}
				_, response, _ := strings.Cut(block, m[0]+"\n")
				x.read(t, response)
				all = append(all, x)
			case strings.Contains(line, "### "):
				_, title, _ = strings.Cut(line, "### ")
			}
		}
	}
	return all
}

var statusLine = regexp.MustCompile(`^HTTP/1\.1 (\d+)`)

func (x *exchange) read(t *testing.T, response string) {
	t.Helper()
	m := statusLine.FindStringSubmatch(response)
	if m == nil {
		return
	}
	x.status, _ = strconv.Atoi(m[1])
	head, body, _ := strings.Cut(response, "\n\n")
	for line := range strings.Lines(head) {
		if value, ok := strings.CutPrefix(line, "Content-Type: "); ok {
			x.contentType = strings.TrimSpace(value)
		}
	}
	x.body = body
}

// The faults, over a real connection.
func TestFaults(t *testing.T) {
	s := &Server{Registry: &Tree{}}
	served := httptest.NewServer(s)
	defer served.Close()
	client := &http.Client{Timeout: 100 * time.Millisecond}
	for name, fault := range map[string]Fault{"hang": Hang, "gone": Gone, "slow": Slow(time.Hour)} {
		s.Fail(fault)
		if response, err := client.Get(served.URL + "/api/v1/admin/sessions"); err == nil {
			t.Errorf("%s: %s", name, response.Status)
		}
	}
	s.Fail(Broken(http.StatusBadGateway))
	if response, err := client.Get(served.URL + "/api/v1/admin/sessions"); err != nil || response.StatusCode != http.StatusBadGateway {
		t.Errorf("broken: %v", err)
	}
	handle := "11111111-2222-3333-4444-555555555555"
	s.Open(Session{Identifier: handle})
	s.Fail(s.DoneUnsaid())
	request, _ := http.NewRequest(http.MethodDelete, served.URL+"/api/v1/admin/sessions/"+handle, nil)
	if _, err := client.Do(request); !errors.Is(err, io.EOF) || len(s.Sessions()) > 0 {
		t.Errorf("done, unsaid: %v, %d sessions", err, len(s.Sessions()))
	}
}

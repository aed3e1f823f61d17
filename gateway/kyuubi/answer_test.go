package kyuubi

import (
	"errors"
	"fmt"
	"html"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spark-vitals/spark-vitals/gateway"
	"github.com/spark-vitals/spark-vitals/internal/kyuubitest"
)

// passwords makes the servers ask for one.
func (w *workbench) passwords() {
	for _, s := range w.servers {
		s.Passwords, s.Administrators = map[string]string{"ops": "right", "alice": "right"}, []string{"ops"}
	}
}

// with is a configuration with more under servers, and files.
func with(t *testing.T, more string, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return strings.Replace(someConfig, `"http://kyuubi-1"]`, `"http://kyuubi-1"], `+strings.ReplaceAll(more, "DIR", dir), 1)
}

const basic = "basic: {userFile: DIR/user, passwordFile: DIR/password}"

// Each row of the table of answers. What a server answers to GET sessions, it
// may answer to any call.
func TestAnswers(t *testing.T) {
	e := deadEngine(t)
	tested := map[string]bool{}
	for _, c := range []struct {
		row    string
		config string
		said   http.HandlerFunc // nil: the stand-in answers, and wants a password
		want   gateway.Reason   // "": worth another try
	}{
		{row: "no scheme", config: someConfig, want: gateway.CredentialsRefused},
		{row: "wrong credentials", config: with(t, basic, map[string]string{"user": "ops\n", "password": "wrong"}), want: gateway.CredentialsRefused},
		{row: "wrong credentials", config: with(t, "bearer: {tokenFile: DIR/token}", map[string]string{"token": "wrong"}), want: gateway.CredentialsRefused},
		{row: "not an administrator", config: with(t, basic, map[string]string{"user": "alice", "password": "right"}), want: gateway.RightsMissing},
		{row: "wrong path", config: someConfig, said: says(404, `{"message":"HTTP 404 Not Found"}`), want: gateway.WrongPath},
		{row: "wrong path", config: someConfig, said: says(404, `404 page not found`), want: gateway.WrongPath},
		{row: "redirect", config: someConfig, said: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://elsewhere/", http.StatusFound)
		}, want: gateway.WrongPath},
		{row: "a page", config: someConfig, said: says(200, `<!doctype html><title>Kyuubi UI</title>`), want: gateway.WrongPath},
		{row: "bad request", config: someConfig, said: says(500, `{"message":"Invalid UUID string: x"}`), want: gateway.RequestRefused},
		{row: "other", config: someConfig, said: says(500, `{"message":"java.lang.NullPointerException"}`)},
		{row: "other", config: someConfig, said: says(502, `<html>bad gateway`)},
		{row: "other", config: someConfig, said: says(503, ``)},
		{row: "other", config: someConfig, said: says(504, ``)},
		{row: "other", config: someConfig, said: says(200, `[{"identifier":"x"`)},
		{row: "other", config: someConfig, said: says(200, `{}`)},
		{row: "other", config: someConfig, said: says(200, ``)},
		{row: "other", config: someConfig, said: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
	} {
		tested[c.row] = true
		w := newWorkbench(t, c.config)
		w.register(t, usersSpace, e)
		if c.said == nil {
			w.passwords()
		} else {
			w.servers[1].Fail(func(w http.ResponseWriter, r *http.Request) http.ResponseWriter { c.said(w, r); return nil })
		}
		r, err := w.release(t, e)
		if c.want == gateway.CredentialsRefused { // only twice
			err = r.Next(t.Context(), w.kyuubi)
		}
		refusal := &gateway.Refusal{}
		if errors.As(err, &refusal); err == nil || refusal.Reason != c.want || (c.want != "") != (refusal.Remedy != "") {
			t.Errorf("%s: %q, want %q", c.row, err, c.want)
		}
		if c.said != nil && len(w.servers[0].Sessions()) > 0 {
			t.Errorf("%s: the other server's sessions are still open", c.row)
		}
	}
	for _, r := range answers {
		if !tested[r.name] && r.err == nil {
			t.Errorf("no test for the row %q", r.name)
		}
	}
}

// Whatever a server repeats of the credentials is in no error's text, and so in
// no Event and no log.
func TestSecretsStay(t *testing.T) {
	jwt := strings.Repeat("eyJ0", 4<<10)
	for _, c := range []struct {
		config  string
		secrets []string
	}{
		{with(t, basic, map[string]string{"user": "ops", "password": "s3<&cret"}), []string{"s3<&cret", "s3&lt;&amp;cret", "b3BzOnMz"}},
		{with(t, "bearer: {tokenFile: DIR/token}", map[string]string{"token": jwt}), []string{"eyJ0"}},
	} {
		for _, status := range []int{200, 302, 400, 401, 403, 404, 500, 503} {
			for _, form := range []string{`{"message":"No auth scheme matched for %s"}`, `<html><title>No auth scheme matched for %s</title>`, `%s`} {
				w := newWorkbench(t, c.config)
				w.servers[0].Fail(func(w http.ResponseWriter, r *http.Request) http.ResponseWriter {
					_, password, _ := r.BasicAuth()
					said := r.Header.Get("Authorization") + " " + password
					if strings.HasPrefix(form, "<") {
						said = html.EscapeString(said)
					}
					says(status, fmt.Sprintf(form, said))(w, r)
					return nil
				})
				err := w.close(t, deadEngine(t))
				if err == nil {
					t.Errorf("%d %s: no error", status, form)
				}
				for _, secret := range c.secrets {
					if strings.Contains(fmt.Sprint(err), secret) {
						t.Errorf("%d %s: %v", status, form, err)
					}
				}
			}
		}
	}
}

func says(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json") // whatever it is
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

// Closing a session: an unclear answer is asked about again.
func TestClosing(t *testing.T) {
	e := deadEngine(t)
	for name, c := range map[string]struct {
		prepare func(*kyuubitest.Server)
		fails   bool
	}{
		"dead engine":              {prepare: func(s *kyuubitest.Server) { s.Engine(e.Application, kyuubitest.Dead) }},
		"frozen engine":            {prepare: func(s *kyuubitest.Server) { s.Engine(e.Application, kyuubitest.Frozen) }},
		"closed cleanly":           {prepare: func(*kyuubitest.Server) {}},
		"old Kyuubi":               {prepare: func(s *kyuubitest.Server) { s.Old = true; s.Engine(e.Application, kyuubitest.Dead) }},
		"done, and then it hung":   {prepare: func(s *kyuubitest.Server) { deletesFail(s, doneAndHung(s)) }},
		"done, and then it died":   {prepare: func(s *kyuubitest.Server) { deletesFail(s, s.DoneUnsaid()) }},
		"not done, and it is gone": {prepare: func(s *kyuubitest.Server) { deletesFail(s, kyuubitest.Gone) }, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorkbench(t, someConfig)
				w.register(t, usersSpace, e)
				c.prepare(w.servers[0])
				r, err := w.release(t, e)
				if (err != nil) != c.fails {
					t.Error(err)
				}
				if left := len(w.servers[0].Sessions()); (left > 0) != c.fails || len(w.servers[1].Sessions()) > 0 {
					t.Errorf("%d sessions are left, closed %d", left, r.Sessions)
				}
			})
		})
	}
}

func deletesFail(s *kyuubitest.Server, f kyuubitest.Fault) {
	s.Fail(func(w http.ResponseWriter, r *http.Request) http.ResponseWriter {
		if r.Method != http.MethodDelete {
			return w
		}
		return f(w, r)
	})
}

func doneAndHung(s *kyuubitest.Server) kyuubitest.Fault {
	return func(w http.ResponseWriter, r *http.Request) http.ResponseWriter {
		func() {
			defer func() { _ = recover() }()
			s.DoneUnsaid()(w, r)
		}()
		return kyuubitest.Hang(w, r)
	}
}

// A password that was refused twice is not sent again for ten minutes, or until it
// changes.
func TestRefusedCredentialsRest(t *testing.T) {
	e := deadEngine(t)
	config := with(t, basic, map[string]string{"user": "ops", "password": "wrong"})
	synctest.Test(t, func(t *testing.T) {
		w := newWorkbench(t, config)
		w.passwords()
		var calls atomic.Int32 // both servers are asked at once
		for _, s := range w.servers {
			s.Fail(func(answer http.ResponseWriter, _ *http.Request) http.ResponseWriter { calls.Add(1); return answer })
		}
		refused := func() {
			t.Helper()
			refusal := gateway.RefusalOf(w.close(t, e))
			if refusal == nil || refusal.Reason != gateway.CredentialsRefused {
				t.Error(refusal)
			}
		}
		if err := w.close(t, e); err == nil || gateway.RefusalOf(err) != nil {
			t.Errorf("the first time: %v", err)
		}
		refused()
		first := calls.Load()
		refused()
		if calls.Load() != first || first != 4 {
			t.Errorf("%d calls with a wrong password, %d more", first, calls.Load()-first)
		}
		time.Sleep(credentialsPause)
		refused()
		if calls.Load() == first {
			t.Error("no call after the pause")
		}
		before := w.kyuubi.Configuration()
		if err := os.WriteFile(w.kyuubi.config.Servers.Basic.PasswordFile, []byte("right\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if w.kyuubi.Configuration() == before {
			t.Error("the change of the password does not show")
		}
		if err := w.close(t, e); err != nil {
			t.Error(err)
		}
	})
}

// A list without an end is not read to its end.
func TestEndlessAnswer(t *testing.T) {
	w := newWorkbench(t, someConfig)
	pad := strings.Repeat("x", 1<<20)
	w.kyuubi.transport = func() (http.RoundTripper, func(), error) {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusOK, Body: &endless{`[`, `{"identifier":"a","exception":"` + pad + `"},`}, Request: r}, nil
		}), func() {}, nil
	}
	if err := w.close(t, deadEngine(t)); err == nil || !strings.Contains(err.Error(), "longer than 64 MiB") {
		t.Error(err)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (r roundTripper) RoundTrip(request *http.Request) (*http.Response, error) { return r(request) }

// endless reads now, and then repeat without end.
type endless struct{ now, repeat string }

func (e *endless) Read(p []byte) (int, error) {
	if e.now == "" {
		e.now = e.repeat
	}
	n := copy(p, e.now)
	e.now = e.now[n:]
	return n, nil
}

func (e *endless) Close() error { return nil }

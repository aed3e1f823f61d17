package kyuubi

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"net/http"
	"slices"
	"strings"

	"github.com/spark-vitals/spark-vitals/gateway"
)

// Results of a call that are not failures.
var (
	errNoSession = errors.New("no such session on this server")
	// errUnsure means that the call may have succeeded; the next call shows it.
	errUnsure = errors.New("the server gave no clear answer")
	// errUnreachable means that the call reached no server.
	errUnreachable = errors.New("cannot be reached")
)

// answer is the answer of a Kyuubi server, other than 200.
type answer struct {
	status  int
	body    []byte // the beginning
	message string // of a JSON body {"message": "..."}
}

func (a answer) html() bool {
	return bytes.HasPrefix(bytes.TrimSpace(a.body), []byte("<"))
}

func (a answer) says(texts ...string) bool {
	return slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(a.message, text) })
}

// row is a row of the table of answers: what an answer looks like, and what it means.
// They were seen on Kyuubi 1.12.0. For an unknown session older servers answer 500 and
// not 404. Do not trust the Content-Type.
type row struct {
	name   string
	is     func(answer) bool
	err    error // one of the errors above; if nil, the answer is a refusal
	reason gateway.Reason
	remedy string
	// said replaces the body, which may repeat the credentials: the answer to an
	// unmatched scheme has the whole header.
	said string
}

func status(code int) func(answer) bool {
	return func(a answer) bool { return a.status == code }
}

const wrongCredentials = "The user, password or token is wrong. Correct the Secret that servers.basic or servers.bearer names. The releaser tries again in ten minutes, or when the Secret changes."

// answers has the most specific row first. An answer in no row (other 500, 502 to 504)
// comes from a server or ZooKeeper in trouble: another try may help.
var answers = []row{
	{
		name: "unknown session",
		is: func(a answer) bool {
			return (a.status == http.StatusNotFound || a.status == http.StatusInternalServerError) && a.says("Invalid session handle", "Invalid SessionHandle")
		},
		err: errNoSession,
	},
	{ // closing a session of a dead engine: the session is gone, only the call to the engine failed
		name: "dead engine",
		is: func(a answer) bool {
			return a.status == http.StatusInternalServerError && a.says("Error while cleaning up the engine resources")
		},
		err: errUnsure,
	},
	{
		name: "bad request",
		is: func(a answer) bool {
			return a.status == http.StatusInternalServerError && a.says("Invalid UUID string")
		},
		reason: gateway.RequestRefused,
		remedy: "This is a bug in spark-vitals, or spark-vitals does not know this version of Kyuubi. Report it.",
	},
	{
		name:   "no scheme",
		is:     status(http.StatusUnauthorized),
		reason: gateway.CredentialsRefused,
		remedy: "Set servers.basic or servers.bearer, as Kyuubi's kyuubi.authentication requires. The releaser does not work with a Kyuubi that accepts only Kerberos.",
		said:   "no matching scheme",
	},
	{
		name:   "wrong credentials",
		is:     func(a answer) bool { return a.status == http.StatusForbidden && a.html() },
		reason: gateway.CredentialsRefused,
		remedy: wrongCredentials,
		said:   "the login failed",
	},
	{
		name:   "not an administrator",
		is:     status(http.StatusForbidden),
		reason: gateway.RightsMissing,
		remedy: "Add the user to Kyuubi's kyuubi.server.administrators.",
	},
	{
		name:   "wrong path",
		is:     status(http.StatusNotFound),
		reason: gateway.WrongPath,
		remedy: "Kyuubi's REST API is not at this address, or this Kyuubi is older than 1.8.",
	},
	{ // never followed: only the configured servers get the credentials
		name:   "redirect",
		is:     func(a answer) bool { return a.status >= 300 && a.status < 400 },
		reason: gateway.WrongPath,
		remedy: "A proxy in front of Kyuubi redirects the request. Name each server itself in servers, with http or https as it is served.",
	},
	{
		name:   "a page",
		is:     func(a answer) bool { return a.status == http.StatusOK && a.html() },
		reason: gateway.WrongPath,
		remedy: "Name Kyuubi's REST port in servers (kyuubi.frontend.rest.bind.port, 10099).",
		said:   "a page",
	},
}

// meaning returns what an unwanted answer means, without the secrets.
func (a answer) meaning(secrets *strings.Replacer) error {
	for _, r := range answers {
		if !r.is(a) {
			continue
		}
		said := fmt.Errorf("%d %s", a.status, cmp.Or(r.said, a.summary(secrets)))
		if r.err != nil {
			return fmt.Errorf("%w: %w", r.err, said)
		}
		return &gateway.Refusal{Reason: r.reason, Remedy: r.remedy, Err: said}
	}
	return fmt.Errorf("%d %s", a.status, a.summary(secrets))
}

// secretsOf returns a replacer that stars out an Authorization, in every form that an
// answer may repeat.
func secretsOf(authorization string) *strings.Replacer {
	var forms []string
	_, token, _ := strings.Cut(authorization, " ")
	plain, _ := base64.StdEncoding.DecodeString(token)
	_, password, _ := strings.Cut(string(plain), ":")
	for _, form := range []string{authorization, token, password} {
		if form != "" {
			forms = append(forms, form, "***", html.EscapeString(form), "***")
		}
	}
	return strings.NewReplacer(forms...)
}

// summary returns the message, or the title of a page.
func (a answer) summary(secrets *strings.Replacer) string {
	text := a.message
	if text == "" {
		text = string(a.body)
		if _, title, ok := strings.Cut(text, "<title>"); ok {
			text, _, _ = strings.Cut(title, "</title>")
		}
	}
	text = secrets.Replace(text)
	return strings.ToValidUTF8(strings.TrimSpace(text[:min(len(text), 300)]), "")
}

func newAnswer(status int, body []byte) answer {
	a := answer{status: status, body: body}
	var said struct{ Message string }
	if json.Unmarshal(body, &said) == nil {
		a.message = said.Message
	}
	return a
}

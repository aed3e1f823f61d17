package kyuubitest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
)

func (s *Server) administrates(user string) bool {
	return s.open() || slices.Contains(s.Administrators, user)
}

func (s *Server) open() bool { return len(s.Passwords) == 0 && len(s.Tokens) == 0 }

// authenticate returns who calls. ok is false if it has answered with a refusal.
func (s *Server) authenticate(w http.ResponseWriter, r *http.Request) (user string, ok bool) {
	given := r.Header.Get("Authorization")
	scheme, token, _ := strings.Cut(given, " ")
	if s.open() {
		user, _, _ := r.BasicAuth()
		if user == "" {
			user = "anonymous"
		}
		return user, true
	}
	switch scheme {
	case "Basic":
		user, password, _ := r.BasicAuth()
		if right, known := s.Passwords[user]; known && right == password {
			return user, true
		}
		page(w, r, http.StatusForbidden, "bad password for "+user)
	case "Bearer":
		if user, known := s.Tokens[token]; known {
			return user, true
		}
		page(w, r, http.StatusForbidden, "bad token")
	default:
		if given == "" {
			given = "null"
		}
		page(w, r, http.StatusUnauthorized, "No auth scheme matched for "+given)
	}
	return "", false
}

// page answers with an error page of Jetty's.
func page(w http.ResponseWriter, r *http.Request, status int, message string) {
	w.Header().Set("Content-Type", "text/html;charset=iso-8859-1")
	w.Header().Set("Cache-Control", "must-revalidate,no-cache,no-store")
	w.WriteHeader(status)
	fmt.Fprintf(w, `<html>
<head>
<meta http-equiv="Content-Type" content="text/html;charset=ISO-8859-1"/>
<title>Error %[1]d %[2]s</title>
</head>
<body><h2>HTTP ERROR %[1]d %[2]s</h2>
<table>
<tr><th>URI:</th><td>%[3]s</td></tr>
<tr><th>STATUS:</th><td>%[1]d</td></tr>
<tr><th>MESSAGE:</th><td>%[2]s</td></tr>
<tr><th>SERVLET:</th><td>org.glassfish.jersey.servlet.ServletContainer-f29353f</td></tr>
</table>
<hr/><a href="https://jetty.org/">Powered by Jetty:// 9.4.57.v20241219</a><hr/>

</body>
</html>
`, status, message, r.URL.Path)
}

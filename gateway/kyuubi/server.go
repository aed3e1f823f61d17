package kyuubi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/spark-vitals/spark-vitals/gateway"
)

// server is the REST API of one Kyuubi server, for one release.
type server struct {
	name          string // of its pod, or else its base
	unready       bool   // it may be starting
	base          string // "http://10.244.0.7:10099"
	client        *http.Client
	authorization string            // the header, "" for none
	secrets       *strings.Replacer // takes it out of texts
	refused       *credentialsRefused
}

// Bounds on what a server may send. A dead session is listed with some 10 KiB of
// stack trace; a message that repeats a token must not end in the middle of it.
const (
	maxMessage = 64 << 10
	maxList    = 64 << 20
)

// session is the part of a session that is used.
type session struct {
	Identifier  string `json:"identifier"`
	User        string `json:"user"`
	SessionType string `json:"sessionType"` // "" before Kyuubi 1.10
	EngineID    string `json:"engineId"`    // "" while there is no engine
	CreateTime  int64  `json:"createTime"`  // milliseconds since 1970
}

// eachSession calls use for each of the server's own sessions of one user, or with ""
// of all users. sessionType is case-sensitive.
func (s server) eachSession(ctx context.Context, user string, use func(session)) error {
	query := url.Values{"sessionType": {"INTERACTIVE"}}
	if user != "" && !strings.Contains(user, ",") { // Kyuubi splits it at commas
		query.Set("users", user)
	}
	return s.call(ctx, http.MethodGet, "/admin/sessions?"+query.Encode(), func(body io.Reader) error {
		return decodeEach(body, s.secrets, use)
	})
}

func (s server) closeSession(ctx context.Context, identifier string) error {
	return s.call(ctx, http.MethodDelete, "/admin/sessions/"+url.PathEscape(identifier), func(io.Reader) error { return nil })
}

// call calls a server. read gets the body of an answer 200.
func (s server) call(ctx context.Context, method, path string, read func(io.Reader) error) error {
	err := s.exchange(ctx, method, s.base+"/api/v1"+path, read)
	refusal := (*gateway.Refusal)(nil)
	errors.As(err, &refusal)
	switch {
	case refusal == nil:
	case s.unready && refusal.Reason == gateway.WrongPath:
		err = fmt.Errorf("the server may be starting: %w", refusal.Err)
	default:
		refusal.Err = fmt.Errorf("%s %s: %w", method, s.base, refusal.Err)
		return refusal
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, s.base, err)
	}
	return nil
}

func (s server) exchange(ctx context.Context, method, address string, read func(io.Reader) error) error {
	request, err := http.NewRequestWithContext(ctx, method, address, nil)
	if err != nil {
		return err
	}
	if err := s.refused.before(s.base, s.authorization); err != nil {
		return err
	}
	if s.authorization != "" {
		request.Header.Set("Authorization", s.authorization)
	}
	response, err := s.client.Do(request)
	if dialled := (*net.OpError)(nil); errors.As(err, &dialled) && dialled.Op == "dial" {
		return fmt.Errorf("%w: %w", errUnreachable, dialled)
	}
	if err != nil { // the request may have arrived
		return fmt.Errorf("%w: %s", errUnsure, s.secrets.Replace(withoutURL(err).Error()))
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(response.Body, maxMessage)) // the part that was read is enough
		return s.refused.keep(s.base, s.authorization, newAnswer(response.StatusCode, body).meaning(s.secrets))
	}
	_ = s.refused.keep(s.base, s.authorization, nil)
	return read(response.Body)
}

// withoutURL removes the request that url.Error repeats.
func withoutURL(err error) error {
	if u := (*url.Error)(nil); errors.As(err, &u) {
		return u.Err
	}
	return err
}

// decodeEach decodes the elements of a JSON list one by one, so it needs the memory of
// one element.
func decodeEach[T any](body io.Reader, secrets *strings.Replacer, use func(T)) error {
	limited := &io.LimitedReader{R: body, N: maxList}
	first := &firstBytes{from: limited}
	decoder := json.NewDecoder(first)
	err := func() error {
		if t, err := decoder.Token(); err != nil || t != json.Delim('[') {
			return errors.Join(errors.New("the answer is not a JSON list"), err)
		}
		for decoder.More() {
			var element T
			if err := decoder.Decode(&element); err != nil {
				return err
			}
			use(element)
		}
		_, err := decoder.Token()
		return err
	}()
	switch a := newAnswer(http.StatusOK, first.kept); {
	case err == nil:
		return nil
	case a.html():
		return a.meaning(secrets)
	case limited.N <= 0:
		return fmt.Errorf("the answer is longer than %d MiB", maxList>>20)
	}
	return fmt.Errorf("reading the answer: %w", err)
}

// firstBytes keeps the beginning of what is read, to see what it was.
type firstBytes struct {
	from io.Reader
	kept []byte
}

func (f *firstBytes) Read(p []byte) (int, error) {
	n, err := f.from.Read(p)
	f.kept = append(f.kept, p[:min(n, maxMessage-len(f.kept))]...)
	return n, err
}

package kyuubi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"regexp"
	"slices"
	"time"

	"github.com/spark-vitals/spark-vitals/gateway"
)

// Share levels, the usual ones first. All of type, sharelevel, subdomain and
// proxyUser must be sent: Kyuubi answers a wrong or missing one with an empty
// list, not with an error.
var levels = []string{"USER", "CONNECTION", "GROUP", "SERVER", "SERVER_LOCAL"}

// restRegistrations looks for the engine in the spaces of the user that the pod
// names, and of those whose sessions it has. Of a GROUP a member is needed, and
// of a SERVER the account that Kyuubi runs as.
func (k *Kyuubi) restRegistrations(ctx context.Context, e gateway.Engine) ([]gateway.Registration, error) {
	users, unasked := k.usersOf(ctx, e)
	found, err := anyServer(ctx, k, func(s server) ([]gateway.Registration, error) { return s.registrations(ctx, e, users) })
	if err == nil && len(found) == 0 {
		err = unasked
	}
	return found, err
}

func (s server) registrations(ctx context.Context, e gateway.Engine, users []string) (found []gateway.Registration, err error) {
	for _, user := range users {
		for _, level := range levels {
			query := url.Values{"type": {engineType}, "sharelevel": {level}, "proxyUser": {user}}
			engines, err := s.engines(ctx, query)
			if err != nil {
				return nil, err
			}
			for _, registered := range engines {
				if registered.Attributes.registers(e) {
					query.Set("subdomain", registered.Subdomain)
					found = append(found, gateway.Registration(query.Encode()))
				}
			}
		}
		if len(found) > 0 {
			break
		}
	}
	return found, nil
}

var errShared = errors.New("healthy engines are registered in the same space, and the way rest cannot remove one alone; waiting for the dead one to expire")

// restDeregister checks, and deletes then.
func (k *Kyuubi) restDeregister(ctx context.Context, e gateway.Engine, found []gateway.Registration) (collateral []string, err error) {
	for _, registration := range found {
		query, err := url.ParseQuery(string(registration))
		if err != nil || query.Get("subdomain") == "" {
			return collateral, fmt.Errorf("registration %q is not one of the way rest: the configuration has changed in the middle of a release", registration)
		}
		others, err := anyServer(ctx, k, func(s server) ([]string, error) { return s.deregister(ctx, e, query, k.log) })
		collateral = append(collateral, others...)
		if err != nil {
			return collateral, err
		}
	}
	return collateral, nil
}

var deletedEngine = regexp.MustCompile(`refId=([\w-]+) is deleted successfully`)

func (s server) deregister(ctx context.Context, e gateway.Engine, query url.Values, log *slog.Logger) (collateral []string, err error) {
	asked := time.Now()
	engines, err := s.engines(ctx, query)
	if err != nil {
		return nil, err
	}
	dead := func(r engine) bool { return r.Attributes.registers(e) }
	switch {
	case !slices.ContainsFunc(engines, dead):
		return nil, nil // gone already
	case slices.ContainsFunc(engines, func(r engine) bool { return !dead(r) }):
		return nil, errShared
	}
	text, err := s.deleteEngines(ctx, query)
	for _, deleted := range deletedEngine.FindAllStringSubmatch(text, -1) {
		if deleted[1] != e.Reference {
			collateral = append(collateral, deleted[1])
		}
	}
	log.Info("deleted by the way rest", "space", query.Encode(), "window", time.Since(asked), "collateral", collateral)
	return collateral, err
}

const maxUsers = 4 // one is enough where they share a group

// usersOf an engine: whom the pod names, and whose sessions it has. The error
// tells of servers that could not be asked.
func (k *Kyuubi) usersOf(ctx context.Context, e gateway.Engine) (users []string, err error) {
	add := func(user string) {
		if isName(user) && len(users) < maxUsers && !slices.Contains(users, user) {
			users = append(users, user)
		}
	}
	add(e.User)
	servers, done, err := k.servers(ctx)
	if err != nil {
		return users, err
	}
	defer done()
	for _, s := range servers {
		err = errors.Join(err, s.eachSession(ctx, func(found session) {
			if found.EngineID == e.Application {
				add(found.User)
			}
		}))
	}
	return users, err
}

// anyServer asks one server after the other, in no order, until one answers.
func anyServer[T any](ctx context.Context, k *Kyuubi, ask func(server) ([]T, error)) (result []T, err error) {
	servers, done, err := k.servers(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	if len(servers) == 0 {
		return nil, errors.New("there is no Kyuubi server to ask")
	}
	rand.Shuffle(len(servers), func(i, j int) { servers[i], servers[j] = servers[j], servers[i] })
	for _, s := range servers {
		if result, err = ask(s); err == nil || errors.As(err, new(*gateway.Refusal)) || errors.Is(err, errShared) {
			break
		}
	}
	return result, err
}

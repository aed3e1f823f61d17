package kyuubi

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"regexp"
	"slices"
	"strings"
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
		for _, space := range spacesOf(user, e) {
			engines, err := s.engines(ctx, space)
			if err != nil {
				return nil, err
			}
			for _, registered := range engines {
				if registered.Attributes.registers(e) {
					space.Set("subdomain", registered.Subdomain)
					found = append(found, gateway.Registration(space.Encode()))
				}
			}
		}
		slices.Sort(found)
		found = slices.Compact(found)
		if len(found) > 0 {
			break
		}
	}
	return found, nil
}

var errShared = errors.New("healthy engines are registered in the same space, and the way rest cannot remove one alone; waiting for the dead one to expire")

// spacesOf a user where the engine may be. The subdomain is sent first: left out
// it means all of them, or on some servers the one of their configuration.
func spacesOf(user string, e gateway.Engine) (spaces []url.Values) {
	for _, level := range levels {
		subdomains := []string{"default", ""}
		if level == "CONNECTION" {
			subdomains[0] = e.Reference
		}
		for _, subdomain := range subdomains {
			space := url.Values{"type": {engineType}, "sharelevel": {level}, "proxyUser": {user}, "hive.server2.proxy.user": {user}}
			if subdomain != "" {
				space.Set("subdomain", subdomain)
			}
			spaces = append(spaces, space)
		}
	}
	return spaces
}

// expiry is after which time a dead engine may be missing in a list; a server
// that cannot ask ZooKeeper gives an empty one, too.
const expiry = time.Minute

var errAbsent = errors.New("the dead engine is not listed; it may be gone, or ZooKeeper away: asked once more")

// restDeregister checks, and deletes then. An engine is gone when two servers
// say so, or one twice, and it may be.
func (k *Kyuubi) restDeregister(ctx context.Context, r *gateway.Release) (collateral []string, err error) {
	for _, registration := range r.Found {
		query, err := url.ParseQuery(string(registration))
		if err != nil || query.Get("subdomain") == "" {
			return collateral, gateway.ErrForeign
		}
		absent := 0
		ask := func(s server) ([]string, error) {
			others, err := s.deregister(ctx, r.Engine, query, k.log)
			if errors.Is(err, errAbsent) {
				if absent++; absent > 1 && time.Since(r.Death.At) > expiry {
					return nil, nil
				}
			}
			return others, err
		}
		others, err := anyServer(ctx, k, ask)
		if errors.Is(err, errAbsent) && absent == 1 {
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
			others, err = anyServer(ctx, k, ask)
		}
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
		return nil, errAbsent
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

// isName tells whether a text can be one step of a path.
func isName(text string) bool {
	return text != "" && text != "." && text != ".." && !strings.Contains(text, "/")
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
		err = errors.Join(err, s.eachSession(ctx, "", func(found session) {
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
		some, e := ask(s)
		result = append(result, some...)
		if e == nil || errors.Is(e, errShared) {
			return result, e
		}
		err = errors.Join(err, e)
	}
	return result, err
}

package kyuubi

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/spark-vitals/spark-vitals/gateway"
	"github.com/spark-vitals/spark-vitals/internal/kyuubitest"
)

// The promise, under random schedules of engines that start, freeze, die, expire
// and register again, of looks at those that run, of servers and a ZooKeeper that
// fail, of restarts between any two steps and of forged pods: a healthy engine is
// never deregistered and its sessions never closed; a dead one's always are, once
// the gateway answers. The one exception is a registration that was gone before
// any look found it: then nothing shows whose the sessions are.
func TestSchedules(t *testing.T) {
	if checks := flag.Lookup("rapid.checks"); checks.Value.String() == checks.DefValue { // a schedule takes less than a millisecond
		_ = checks.Value.Set("3000")
		defer func() { _ = checks.Value.Set(checks.DefValue) }()
	}
	rapid.Check(t, func(rt *rapid.T) {
		events := rapid.SliceOfN(drawEvent, 5, 40).Draw(rt, "events")
		var wrong []string
		synctest.Test(t, func(t *testing.T) {
			s := &schedule{workbench: newWorkbench(t, someConfig), t: t}
			for _, event := range events {
				s.do(event)
			}
			s.finish()
			wrong = s.wrong
		})
		if len(wrong) > 0 {
			rt.Fatal(wrong)
		}
	})
}

type event struct {
	Kind string
	N    int // which engine, server, fault or space
	M    int
}

var (
	kinds     = []string{"start", "start", "die", "die", "expire", "look", "look", "freeze", "register again", "restart", "step", "step", "step", "step and crash", "forge", "forge a running engine", "fail", "heal", "zookeeper down", "zookeeper up"}
	drawEvent = rapid.Custom(func(t *rapid.T) event {
		return event{rapid.SampledFrom(kinds).Draw(t, "kind"), rapid.IntRange(0, 11).Draw(t, "n"), rapid.IntRange(0, 11).Draw(t, "m")}
	})
)

type engine struct {
	gateway.Engine
	space         kyuubitest.Space
	node          string
	dead, expired bool
	found         []gateway.Registration // at the last look that found any
	missed        int                    // looks since then
	shared        bool                   // its application is another engine's too
	release       gateway.Release        // what is in memory
	journal       []byte                 // what is written down: the release after it was proven
}

type schedule struct {
	*workbench
	t       *testing.T
	engines []*engine
	wrong   []string
}

func (s *schedule) do(e event) {
	faults := []kyuubitest.Fault{kyuubitest.Hang, kyuubitest.Gone, kyuubitest.Broken(503), kyuubitest.Slow(1e9)}
	server := s.servers[e.N%len(s.servers)]
	switch e.Kind {
	case "start":
		s.start(e)
	case "fail":
		server.Fail(append(faults, server.DoneUnsaid())[e.M%5])
	case "heal":
		server.Fail(nil)
	case "zookeeper down":
		s.tree.Down(true)
	case "zookeeper up":
		s.tree.Down(false)
	case "forge":
		s.forge(e)
	case "forge a running engine":
		s.forgeRunning(e)
	case "look":
		s.look()
	case "restart": // what is written down stays
		for _, l := range s.engines {
			if !l.dead && l.missed < 2 {
				l.found = nil
			}
		}
	default:
		if len(s.engines) > 0 {
			s.live(s.engines[e.N%len(s.engines)], e)
		}
	}
	s.check(e)
}

func (s *schedule) live(l *engine, e event) {
	switch e.Kind {
	case "die":
		s.dies(l, e.M)
	case "freeze": // or it is about to end
		if !l.dead {
			s.tree.Expire(l.node)
			l.expired = true
		}
	case "register again":
		if !l.dead && l.expired {
			s.tree.Down(false)
			node, err := kyuubitest.Register(s.tree, l.space, l.Reference, l.Application, l.Addresses[0]+":44057")
			if err != nil {
				s.t.Fatal(err)
			}
			l.node, l.expired = node, false
		}
	case "expire":
		if l.dead {
			s.tree.Expire(l.node)
			l.expired = true
		}
	case "step":
		s.step(l)
	case "step and crash": // the step is done, and its result lost
		before := l.release
		s.step(l)
		l.release = before
		if l.journal != nil {
			l.release = gateway.Release{}
			if err := json.Unmarshal(l.journal, &l.release); err != nil {
				s.t.Fatal(err)
			}
		}
	}
}

func (s *schedule) start(e event) {
	n := len(s.engines)
	l := &engine{Engine: gateway.Engine{
		Reference: fmt.Sprintf("%08x-0000-4000-8000-000000000000", n), Application: fmt.Sprintf("spark-%032x", n),
		Addresses: []string{s.freeAddress(e.M)},
	}}
	if n > 0 && e.M == 0 { // the user who submits a driver can choose it
		l.Application, l.shared = s.engines[n-1].Application, true
		s.engines[n-1].shared = true
	}
	space := []kyuubitest.Space{
		usersSpace, usersSpace, {Level: "USER", User: "bob", Subdomain: "engine-pool-1"},
		{Level: "CONNECTION", User: "alice", Subdomain: l.Reference}, {Level: "GROUP", User: "analysts", Subdomain: "default"},
	}[e.N%5]
	s.tree.Down(false)
	l.space, l.node = space, s.register(s.t, space, l.Engine)
	s.engines = append(s.engines, l)
}

// freeAddress returns an address of no running engine; those of dead ones are used again.
func (s *schedule) freeAddress(n int) string {
	for ; ; n++ {
		address := fmt.Sprintf("10.0.0.%d", n%250)
		if !slices.ContainsFunc(s.engines, func(l *engine) bool { return !l.dead && l.Addresses[0] == address }) {
			return address
		}
	}
}

func (s *schedule) dies(l *engine, how int) {
	if l.dead {
		return
	}
	l.dead = true
	for _, server := range s.servers {
		server.Engine(l.Application, []kyuubitest.Health{kyuubitest.Dead, kyuubitest.Frozen}[how%2])
	}
	l.release = gateway.Release{Engine: l.Engine, Death: gateway.Death{At: time.Now()}, WhileRunning: l.found, Pending: gateway.Steps}
}

// step does a step, as the releaser does: the proof is written down.
func (s *schedule) step(l *engine) {
	if len(l.release.Pending) == 0 || s.hasTwin(l) {
		return
	}
	proves := l.release.Pending[0] == gateway.Prove
	err := l.release.Next(s.t.Context(), s.kyuubi)
	switch {
	case errors.Is(err, gateway.ErrNotRegistered):
		if (!l.expired || len(l.found) > 0) && l.journal == nil {
			s.wrong = append(s.wrong, l.Reference+" is registered, or was seen to be, and was not found")
		}
		l.release.Pending = nil
	case err == nil && proves:
		l.journal, _ = json.Marshal(l.release)
	}
}

// hasTwin reports whether an engine of the same application runs that ZooKeeper does
// not show. The releaser sees its pod, and does nothing.
func (s *schedule) hasTwin(l *engine) bool {
	return slices.ContainsFunc(s.engines, func(other *engine) bool {
		return other != l && !other.dead && other.expired && other.Application == l.Application
	})
}

// forge lets a pod die whose labels are another's, one or both, and whose address is its
// own.
func (s *schedule) forge(e event) {
	if len(s.engines) == 0 {
		return
	}
	victim := s.engines[e.N%len(s.engines)].Engine
	victim.Addresses = []string{s.freeAddress(e.M)}
	switch e.M % 4 {
	case 1:
		victim.Reference = ""
	case 2:
		victim.Application = ""
	case 3:
		victim.Addresses = nil
	}
	if s.engines[e.N%len(s.engines)].dead {
		return // the address may be the dead engine's own again
	}
	release := gateway.Release{Engine: victim, Death: gateway.Death{At: time.Now()}, Pending: gateway.Steps}
	for len(release.Pending) > 0 {
		if err := release.Next(s.t.Context(), s.kyuubi); err != nil {
			return
		}
	}
	s.wrong = append(s.wrong, fmt.Sprintf("forged keys released %+v", victim))
}

// look at the engines that run, as the releaser does.
func (s *schedule) look() {
	var running []*engine
	var engines []gateway.Engine
	for _, l := range s.engines {
		if !l.dead {
			running, engines = append(running, l), append(engines, l.Engine)
		}
	}
	found, err := s.kyuubi.Look(s.t.Context(), engines)
	if err != nil {
		return
	}
	for i, l := range running {
		switch {
		case len(found[i]) > 0:
			l.found, l.missed = found[i], 0
			if l.expired || !slices.Equal(found[i], []gateway.Registration{gateway.Registration(l.node)}) {
				s.wrong = append(s.wrong, fmt.Sprintf("%s is registered as %s, and seen as %q", l.Reference, l.node, found[i]))
			}
		case !l.expired:
			s.wrong = append(s.wrong, l.Reference+" is registered, and was not seen")
		default:
			l.missed++
		}
	}
}

// forgeRunning lets a pod with its own tag and address register itself under the
// application of a registered engine, be looked at, remove its registration and die.
func (s *schedule) forgeRunning(e event) {
	if len(s.engines) == 0 {
		return
	}
	victim := s.engines[e.N%len(s.engines)]
	if victim.dead || victim.expired || victim.shared {
		return // the loop sees the other pod; here only ZooKeeper is asked
	}
	own := gateway.Engine{Reference: fmt.Sprintf("feedfeed-0000-4000-8000-%012x", e.M), Application: victim.Application, Addresses: []string{s.freeAddress(e.M)}}
	s.tree.Down(false)
	node, err := kyuubitest.Register(s.tree, usersSpace, own.Reference, own.Application, own.Addresses[0]+":1")
	if err != nil {
		s.t.Fatal(err)
	}
	found, err := s.kyuubi.Look(s.t.Context(), []gateway.Engine{own, victim.Engine})
	if err != nil || len(found[0]) != 1 || len(found[1]) != 1 {
		s.wrong = append(s.wrong, fmt.Sprintf("seen %q, %v", found, err))
		return
	}
	if s.tree.Expire(node); e.M%2 == 0 {
		found[0] = append(found[0], found[1]...) // were it the victim's, it would not be removed
	}
	release := gateway.Release{Engine: own, Death: gateway.Death{At: time.Now()}, WhileRunning: found[0], Pending: gateway.Steps}
	for len(release.Pending) > 0 {
		if err := release.Next(s.t.Context(), s.kyuubi); err != nil {
			return
		}
	}
	s.wrong = append(s.wrong, fmt.Sprintf("a forged engine released %+v", own))
}

// check that nothing healthy was touched.
func (s *schedule) check(after any) {
	deleted := s.tree.Deleted()
	for _, l := range s.engines {
		if l.dead {
			continue
		}
		if slices.Contains(deleted, l.node) {
			s.wrong = append(s.wrong, fmt.Sprintf("%s is healthy and was deregistered by %v", l.Reference, after))
		}
		if s.sessions(l.Engine) != len(s.servers) {
			s.wrong = append(s.wrong, fmt.Sprintf("%s is healthy and lost sessions by %v", l.Reference, after))
		}
	}
}

// finish lets everything answer again, and every release come to its end.
func (s *schedule) finish() {
	s.tree.Down(false)
	for _, server := range s.servers {
		server.Fail(nil)
	}
	for _, l := range s.engines {
		found := !l.expired || l.journal != nil || len(l.found) > 0
		for range 2 * len(gateway.Steps) {
			s.step(l)
		}
		switch {
		case !l.dead, l.shared: // of these it is only promised that the healthy are not touched
		case len(l.release.Pending) > 0:
			s.wrong = append(s.wrong, fmt.Sprintf("%s: pending %v", l.Reference, l.release.Pending))
		case found && !slices.Contains(s.tree.Deleted(), l.node) && !l.expired:
			s.wrong = append(s.wrong, l.Reference+" is dead and still registered")
		case found && s.sessions(l.Engine) > 0:
			s.wrong = append(s.wrong, l.Reference+" is dead and has sessions")
		}
	}
	s.check("the end")
}

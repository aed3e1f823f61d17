// Command kyuubi serves a stand-in for Kyuubi servers, for stories on a cluster:
//
//	kyuubi -zookeeper HOST:PORT -listen ADDRESS [-listen ADDRESS...]
//
// Each address is one server. All share the ZooKeeper. Beside Kyuubi's own REST
// API each takes
//
//	POST /stand-in/engines    {"level","user","subdomain","refId","engineId","address"}: register one, as long as the command runs
//	POST /stand-in/sessions   a session, with the fields of GET /api/v1/admin/sessions
//	POST /stand-in/dead       {"engineId"}: what closing its sessions answers from now on
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/go-zookeeper/zk"
	"golang.org/x/sync/errgroup"

	"github.com/spark-vitals/spark-vitals/internal/kyuubitest"
)

func main() {
	var addresses []string
	zookeeper := flag.String("zookeeper", "127.0.0.1:2181", "where engines are registered")
	session := flag.Duration("session", 40*time.Second, "how long ZooKeeper keeps registrations after this command was killed")
	flag.Func("listen", "an address of a server; may be given again", func(a string) error { addresses = append(addresses, a); return nil })
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := serve(ctx, *zookeeper, *session, addresses)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(ctx context.Context, zookeeper string, session time.Duration, addresses []string) error {
	if len(addresses) == 0 {
		return errors.New("-listen is missing")
	}
	conn, _, err := zk.Connect(strings.Split(zookeeper, ","), session)
	if err != nil {
		return err
	}
	defer conn.Close()
	registry := kyuubitest.ZooKeeper(conn)
	serving, ctx := errgroup.WithContext(ctx)
	for _, address := range addresses {
		server := &http.Server{Addr: address, Handler: handler(&kyuubitest.Server{}, registry), ReadHeaderTimeout: time.Minute}
		context.AfterFunc(ctx, func() { _ = server.Close() })
		serving.Go(func() error {
			if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		})
	}
	return serving.Wait()
}

func handler(s *kyuubitest.Server, registry kyuubitest.Registry) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", s)
	mux.Handle("POST /stand-in/engines", taking(func(e struct{ Level, User, Subdomain, RefID, EngineID, Address string }) (any, error) {
		return kyuubitest.Register(registry, kyuubitest.Space{Level: e.Level, User: e.User, Subdomain: e.Subdomain}, e.RefID, e.EngineID, e.Address)
	}))
	mux.Handle("POST /stand-in/sessions", taking(func(session kyuubitest.Session) (any, error) {
		s.Open(session)
		return "open", nil
	}))
	mux.Handle("POST /stand-in/dead", taking(func(e struct{ EngineID string }) (any, error) {
		s.Engine(e.EngineID, kyuubitest.Dead)
		return "dead", nil
	}))
	return mux
}

func taking[T any](do func(T) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var asked T
		err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&asked)
		if err == nil {
			var done any
			if done, err = do(asked); err == nil {
				_ = json.NewEncoder(w).Encode(done)
				return
			}
		}
		http.Error(w, err.Error(), http.StatusBadRequest)
	})
}

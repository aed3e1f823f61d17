package kyuubi

import (
	"errors"
	"sync"
	"time"

	"github.com/spark-vitals/spark-vitals/gateway"
)

// credentialsRefused remembers the Authorization that was refused last. It rests
// for a while, because a directory server may lock the account after a few wrong
// passwords, but not for ever: a directory server that is away refuses too.
type credentialsRefused struct {
	now           func() time.Time
	lock          sync.Mutex
	authorization string
	until         time.Time
}

const rest = 10 * time.Minute

var errResting = errors.New("these credentials were refused, and rest")

// before a call: whether it may be made.
func (c *credentialsRefused) before(authorization string) error {
	c.lock.Lock()
	defer c.lock.Unlock()
	if c.authorization != authorization || !c.now().Before(c.until) {
		return nil
	}
	return &gateway.Refusal{Reason: gateway.CredentialsRefused, Err: errResting, Remedy: wrongCredentials}
}

// keep in mind what a call came to, and return it.
func (c *credentialsRefused) keep(authorization string, err error) error {
	refusal := (*gateway.Refusal)(nil)
	if errors.As(err, &refusal) && refusal.Reason == gateway.CredentialsRefused {
		c.lock.Lock()
		defer c.lock.Unlock()
		c.authorization, c.until = authorization, c.now().Add(rest)
	}
	return err
}

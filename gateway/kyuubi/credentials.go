package kyuubi

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spark-vitals/spark-vitals/gateway"
)

// credentialsRefused remembers which credentials each server refused. A server also
// refuses while its directory is away, so the first refusal in a row counts as a
// failure like others. After the second the credentials are not sent to that server
// for a while, because a directory may lock the account after a few wrong passwords.
type credentialsRefused struct {
	now     func() time.Time
	lock    sync.Mutex
	refused map[credentials]refused
}

type credentials struct{ base, authorization string }

type refused struct {
	times int
	until time.Time
}

// credentialsPause is for how long refused credentials are not sent.
const credentialsPause = 10 * time.Minute

var errPaused = errors.New("these credentials were refused before, and are not sent again yet")

// before returns an error if a call may not be made now.
func (c *credentialsRefused) before(base, authorization string) error {
	c.lock.Lock()
	defer c.lock.Unlock()
	if !c.now().Before(c.refused[credentials{base, authorization}].until) {
		return nil
	}
	return &gateway.Refusal{Reason: gateway.CredentialsRefused, Err: errPaused, Remedy: wrongCredentials}
}

// keep remembers the result of a call, and returns it.
func (c *credentialsRefused) keep(base, authorization string, err error) error {
	c.lock.Lock()
	defer c.lock.Unlock()
	key := credentials{base, authorization}
	refusal := (*gateway.Refusal)(nil)
	if !errors.As(err, &refusal) || refusal.Reason != gateway.CredentialsRefused {
		delete(c.refused, key)
		return err
	}
	if c.refused == nil {
		c.refused = map[credentials]refused{}
	}
	if times := c.refused[key].times + 1; times > 1 || authorization == "" {
		c.refused[key] = refused{times, c.now().Add(credentialsPause)}
		return err
	}
	c.refused[key] = refused{times: 1}
	return fmt.Errorf("refused for the first time, so the releaser asks once more: %w", refusal.Err)
}

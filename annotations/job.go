package annotations

import (
	"errors"
	"regexp"
)

// maxJob is how many bytes the name of an object may have.
const maxJob = 253

var objectName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)

// CheckJob checks the value of [Job]. It is the name of an object.
func CheckJob(name string) error {
	if len(name) <= maxJob && objectName.MatchString(name) {
		return nil
	}
	return errors.New(`must be the name of an object: small letters, digits, "-" and ".", such as "nightly-sales"`)
}

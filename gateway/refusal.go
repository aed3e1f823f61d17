package gateway

import (
	"errors"
	"fmt"
)

// Refusal is an error that another try does not cure: somebody has to change the
// configuration, of ours or of the gateway's.
type Refusal struct { //nolint:errname // it is a refusal first, and reads so
	Reason Reason
	Remedy string // what to do, a sentence
	Err    error  // what was answered, for the log alone; not nil
}

// Reason of a refusal, one word, as Events have it.
type Reason string

// The reasons.
const (
	CredentialsRefused Reason = "CredentialsRefused" // user, password or token
	RightsMissing      Reason = "RightsMissing"      // known, and not allowed to
	WrongPath          Reason = "WrongPath"          // what answers is no gateway of a version that can do it
	RequestRefused     Reason = "RequestRefused"     // the gateway does not understand what we ask; a mistake of ours
	NotProven          Reason = "NotProven"          // the pod cannot be shown to be the engine
)

func (r *Refusal) Error() string { return fmt.Sprintf("%v. %s", r.Err, r.Remedy) }

// Unwrap returns what was answered.
func (r *Refusal) Unwrap() error { return r.Err }

// RefusalOf an error: one that is a refusal through and through. What is joined
// of a refusal and something else is worth another try.
func RefusalOf(err error) (refusal *Refusal) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			if refusal = RefusalOf(e); refusal == nil {
				return nil
			}
		}
		return refusal
	}
	if refusal, ok := err.(*Refusal); ok { //nolint:errorlint // as above
		return refusal
	}
	if err = errors.Unwrap(err); err == nil {
		return nil
	}
	return RefusalOf(err)
}

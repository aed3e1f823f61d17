package gateway

import (
	"errors"
	"fmt"
)

// Refusal is an error that another try does not cure: a person has to change the
// configuration of the releaser or of Kyuubi.
type Refusal struct { //nolint:errname // it is a refusal first, and reads so
	Reason Reason
	Remedy string // what to do, as a sentence
	Err    error  // the answer, only for the log; not nil
}

// Reason is the reason of a refusal, one word, as Events have it.
type Reason string

// The reasons.
const (
	CredentialsRefused Reason = "CredentialsRefused" // user, password or token
	RightsMissing      Reason = "RightsMissing"      // the user is known, but lacks the right
	WrongPath          Reason = "WrongPath"          // no Kyuubi of a known version answers there
	RequestRefused     Reason = "RequestRefused"     // Kyuubi does not understand the request; a bug in spark-vitals
	NotProven          Reason = "NotProven"          // nothing proves that the pod is the engine
)

func (r *Refusal) Error() string { return fmt.Sprintf("%v. %s", r.Err, r.Remedy) }

// Unwrap returns the answer that led to the refusal.
func (r *Refusal) Unwrap() error { return r.Err }

// RefusalOf returns the refusal in an error, or nil. If a refusal is joined with any
// other error, another try may help, so it returns nil.
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

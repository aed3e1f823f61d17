package driverui

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"syscall"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/spark-vitals/spark-vitals/spark"
)

// Answer is how a driver's UI answers a question.
type Answer int

// The answers.
const (
	Unreached   Answer = iota // it accepts no connection, or was not asked
	Refused                   // it is off, or has stopped
	Other                     // something else: a login, a page of its start
	Data                      // what was asked for, as JSON
	Nothing                   // it accepts the connection, and then closes it or is silent
	OutOfMemory               // an error page that says that the heap is full
	Broken                    // an error without a page of Spark's or of a filter's
)

// Answer asks a driver for its application, which is a small question, and returns how
// its UI answers.
func (c *Client) Answer(ctx context.Context, driver spark.Pod) Answer {
	err := c.ask(ctx, driver, "", maxToken, (*jsontext.Decoder).SkipValue)
	if ctx.Err() != nil { // the question was ended from here
		return Unreached
	}
	return answerOf(err)
}

func answerOf(err error) Answer {
	var network *net.OpError
	switch {
	case err == nil:
		return Data
	case errors.Is(err, syscall.ECONNREFUSED):
		return Refused
	case errors.Is(err, errOutOfMemory):
		return OutOfMemory
	case errors.Is(err, errBroken):
		return Broken
	case errors.Is(err, ErrNoAddress), errors.As(err, &network) && network.Op == "dial":
		return Unreached
	case slices.ContainsFunc([]error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE, context.DeadlineExceeded}, func(as error) bool { return errors.Is(err, as) }):
		return Nothing
	}
	return Other
}

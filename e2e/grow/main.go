// Command grow is a container of Spark's with Python in small: a parent, and a
// child that it starts.
//
//	grow       takes memory until it is ended
//	grow CODE  starts a child that does, goes on without it, and exits with CODE
package main

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"time"
)

func main() {
	if len(os.Args) < 2 {
		grow()
	}
	code, err := strconv.Atoi(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "usage: grow [CODE]")
		os.Exit(2)
	}
	fmt.Fprintln(os.Stdout, "the child ended:", exec.Command(os.Args[0]).Run())
	time.Sleep(3 * time.Second) // it goes on
	os.Exit(code)
}

// grow takes memory that is really used, a MiB at a time, and never returns.
func grow() {
	for taken := [][]byte{}; ; {
		memory := make([]byte, 1<<20)
		for i := 0; i < len(memory); i += 4096 {
			memory[i] = 1
		}
		taken = append(taken, memory)
	}
}

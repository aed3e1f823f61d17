package spark

import "strconv"

const (
	executorCoresEnv     = "SPARK_EXECUTOR_CORES"
	resourceProfileLabel = "spark-exec-resourceprofile-id"
)

// ExecutorID is the number of an executor, which Spark counts from 1 and never
// uses twice in an application. ok is false if the pod does not show it. Number 0
// is no identity: Armada, for example, builds all executors of an application
// from one pod with that number.
func (p Pod) ExecutorID() (id int64, ok bool) {
	id, err := strconv.ParseInt(p.Labels[ExecutorIDLabel], 10, 32)
	return id, err == nil && id > 0 && p.Role == Executor
}

// Cores of an executor, which is how many tasks share its memory; 0 where the
// pod does not show it.
func (p Pod) Cores() int {
	value, _ := p.Env(executorCoresEnv)
	cores, err := strconv.Atoi(value)
	if err != nil || cores < 0 {
		return 0
	}
	return cores
}

// ResourceProfile of an executor: "0" is the one that Spark's configuration
// describes, any other one the program itself has built.
func (p Pod) ResourceProfile() string {
	if id := p.Labels[resourceProfileLabel]; id != "" {
		return id
	}
	return "0"
}

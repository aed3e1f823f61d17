package spark

import "strconv"

const (
	// ExecutorCores is the variable from which an executor's entrypoint reads its cores.
	ExecutorCores = "SPARK_EXECUTOR_CORES"
	// ExecutorMemory is the variable from which it reads its heap: "512m".
	ExecutorMemory = "SPARK_EXECUTOR_MEMORY"

	resourceProfileLabel = "spark-exec-resourceprofile-id"
)

// ExecutorID returns the number of an executor. Spark counts from 1 and never uses a
// number twice in an application. ok is false if the pod does not show it. Number 0 is
// no identity: Armada, for example, builds all executors of an application from one
// pod with that number.
func (p Pod) ExecutorID() (id int64, ok bool) {
	id, err := strconv.ParseInt(p.Labels[ExecutorIDLabel], 10, 32)
	return id, err == nil && id > 0 && p.Role == Executor
}

// Cores returns an executor's cores, or 0 if the pod does not show them. So many tasks
// share its memory.
func (p Pod) Cores() int {
	value, _ := p.Env(ExecutorCores)
	cores, err := strconv.Atoi(value)
	if err != nil || cores < 0 {
		return 0
	}
	return cores
}

// ResourceProfile returns the ID of an executor's profile. Spark's configuration
// describes "0"; the program itself built any other.
func (p Pod) ResourceProfile() string {
	if id := p.Labels[resourceProfileLabel]; id != "" {
		return id
	}
	return "0"
}

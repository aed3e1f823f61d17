package spark

import (
	"slices"
	"strconv"
	"strings"
)

// Settings are an application's settings that decide the memory of its pods, as they
// are in force in its driver.
type Settings struct {
	// Driver is for the driver's container. Executor is for executors of Spark's
	// default resource profile, which has ID "0".
	Driver, Executor MemorySettings
	// Profiles are for executors of the resource profiles that the program built, by
	// ID.
	Profiles map[string]MemorySettings
	// TaskCPUs is spark.task.cpus: how many cores a task takes. It is 0 if that is not a
	// whole number, which Spark 4.3 allows.
	TaskCPUs int
	// MaxTaskCPUs is the same for the tasks of whichever resource profile take most. Since
	// 3.5.1 tasks of a profile without executors of its own run on those of profile "0"
	// (TaskResourceProfile). It is 0 if one is not a whole number.
	MaxTaskCPUs int
	// OtherResources is true if tasks or executors ask for more than cores and memory: for
	// GPUs, for example.
	OtherResources bool
	// Dynamic is spark.dynamicAllocation.enabled: executors come and go with the work.
	Dynamic bool
	// RecoveryMode is spark.kubernetes.allocation.recoveryMode.enabled, since 4.2: "" if it
	// is not set.
	RecoveryMode string
	// Slots names something of the program that needs several tasks to run at a time, as
	// far as the settings show it: "XGBoost", or "".
	Slots string
	// HeartbeatSeconds is spark.executor.heartbeatInterval: how often an executor sends
	// its measurements to the driver.
	HeartbeatSeconds int
}

// MemorySettings are the settings of one kind of container. Sizes are in MiB.
type MemorySettings struct {
	Heap int64
	// Overhead is memoryOverhead, or 0 if it is not set. Then Spark multiplies the heap
	// by a factor.
	Overhead int64
	OffHeap  int64 // 0 unless spark.memory.offHeap.enabled
	PySpark  int64 // spark.executor.pyspark.memory, or 0 if it is not set
}

// Of returns the settings of an executor's container. ok is false if its resource
// profile is not known.
func (s *Settings) Of(profile string) (m MemorySettings, ok bool) {
	if profile == "0" {
		return s.Executor, true
	}
	m, ok = s.Profiles[profile]
	return m, ok
}

// MemoryKeys are the keys of Spark's configuration that [SettingsOf] reads. No other
// setting is kept, because others may hold secrets.
var MemoryKeys = []string{
	driverMemory, "spark.driver.memoryOverhead",
	"spark.executor.memory", "spark.executor.memoryOverhead", "spark.executor.pyspark.memory",
	"spark.memory.offHeap.enabled", "spark.memory.offHeap.size",
	taskCPUs, "spark.executor.heartbeatInterval", recoveryMode, dynamicAllocation,
}

const (
	taskCPUs          = "spark.task.cpus"
	dynamicAllocation = "spark.dynamicAllocation.enabled"
	recoveryMode      = "spark.kubernetes.allocation.recoveryMode.enabled"
)

// ReadSetting reads a setting that Spark's configuration has under some key: it notes
// whether such a key or value exists, and keeps nothing of it.
func (s *Settings) ReadSetting(key, value string) {
	switch {
	case strings.HasPrefix(key, "spark.executor.resource."), strings.HasPrefix(key, "spark.task.resource."):
		s.OtherResources = true
	case strings.HasPrefix(key, "spark.streaming."):
		s.Slots = "Spark Streaming"
	case slices.Contains(libraryKeys, key) && s.Slots == "":
		s.Slots = slotsOf(value)
	}
}

// libraryKeys are the keys that name the libraries of an application.
var libraryKeys = []string{"spark.jars", "spark.jars.packages", "spark.submit.pyFiles", "spark.plugins"}

// slotLibraries are libraries whose tasks wait for each other, by a part of the name of
// their files. They run a barrier stage, or workers that build a ring.
var slotLibraries = []struct{ part, name string }{
	{"xgboost", "XGBoost"}, {"lightgbm", "LightGBM"}, {"synapseml", "LightGBM of SynapseML"},
	{"horovod", "Horovod"}, {"raydp", "Ray"}, {"spark-tensorflow-distributor", "TensorFlow"},
	{"spark-streaming-", "Spark Streaming"}, // each receiver takes a task for ever
}

func slotsOf(files string) string {
	files = strings.ToLower(files)
	for _, l := range slotLibraries {
		if strings.Contains(files, l.part) {
			return l.name
		}
	}
	return ""
}

// SettingsOf reads Spark's configuration. A key that is absent has Spark's default
// (config/package.scala). A value that cannot be read counts as absent.
func SettingsOf(conf map[string]string) Settings {
	size := func(key string) int64 { return sparkBytes(conf[key]) / mib }
	s := Settings{
		Driver:           MemorySettings{Heap: size(driverMemory), Overhead: size("spark.driver.memoryOverhead")},
		Executor:         MemorySettings{Heap: size("spark.executor.memory"), Overhead: size("spark.executor.memoryOverhead"), PySpark: size("spark.executor.pyspark.memory")},
		TaskCPUs:         1,
		RecoveryMode:     conf[recoveryMode],
		Dynamic:          conf[dynamicAllocation] == "true",
		HeartbeatSeconds: seconds(conf["spark.executor.heartbeatInterval"]),
	}
	if cpus, set := conf[taskCPUs]; set {
		s.TaskCPUs = count(cpus)
	}
	s.MaxTaskCPUs = s.TaskCPUs
	for _, m := range []*MemorySettings{&s.Driver, &s.Executor} {
		if m.Heap == 0 {
			m.Heap = defaultDriverHeapBytes / mib // the default of executors, too
		}
	}
	if conf["spark.memory.offHeap.enabled"] == "true" {
		s.Executor.OffHeap = sparkBytesOr(conf["spark.memory.offHeap.size"], 1) / mib
	}
	return s
}

func count(value string) int {
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 || n > 1<<20 {
		return 0
	}
	return n
}

const defaultHeartbeat = 10 // seconds

// seconds reads a time as Spark does (JavaUtils.timeStringAs with milliseconds for a
// plain number): "10s", "10000", "1m". It returns Spark's default for the heartbeat if
// it cannot read the value.
func seconds(value string) int {
	value = strings.ToLower(strings.TrimSpace(value))
	number := strings.TrimRight(value, "abcdefghijklmnopqrstuvwxyz")
	n, err := strconv.ParseInt(number, 10, 32)
	if err != nil || n <= 0 {
		return defaultHeartbeat
	}
	switch value[len(number):] {
	case "", "ms":
		n /= 1000
	case "s":
	case "m", "min":
		n *= 60
	case "h":
		n *= 3600
	default:
		return defaultHeartbeat
	}
	return int(min(max(n, 1), 24*3600))
}

package remedy_test

import (
	"strings"
	"testing"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/remedy"
	"github.com/spark-vitals/spark-vitals/spark"
)

// A plan of an earlier run takes no cores if the settings of this one speak against it.
func TestCarry(t *testing.T) {
	for name, c := range map[string]struct {
		settings *spark.Settings
		version  string
		want     string // why not
	}{
		"fits":              {&spark.Settings{TaskCPUs: 1, MaxTaskCPUs: 1}, "3.5.9", ""},
		"a large task":      {&spark.Settings{TaskCPUs: 2, MaxTaskCPUs: 2}, "3.5.9", "a task needs 2 cores"},
		"one task already":  {&spark.Settings{TaskCPUs: 4, MaxTaskCPUs: 4}, "3.5.9", "one task at a time"},
		"half a core":       {&spark.Settings{}, "3.5.9", "not whole"},
		"GPUs":              {&spark.Settings{TaskCPUs: 1, MaxTaskCPUs: 1, OtherResources: true}, "3.5.9", "GPUs"},
		"slots":             {&spark.Settings{TaskCPUs: 1, MaxTaskCPUs: 1, Slots: "Horovod"}, "3.5.9", "Horovod"},
		"recovery mode":     {&spark.Settings{TaskCPUs: 1, MaxTaskCPUs: 1}, "4.3.0", "recovery mode"},
		"nothing is known":  {nil, "3.5.9", "recorder.readConfigMaps"},
		"recovery mode off": {&spark.Settings{TaskCPUs: 1, MaxTaskCPUs: 1, RecoveryMode: "false"}, "4.3.0", ""},
	} {
		driver := application(nil).Driver
		driver.Labels[spark.VersionLabel] = c.version
		memory := &annotations.RemedyMemory{FromLimitMiB: 1408, ToLimitMiB: 2112, FromHeapMiB: 1024, ToHeapMiB: 1024, Executors: 1}
		got := remedy.Carry(annotations.RemedyPlan{Application: "spark-1", Profile: "0", Mode: annotations.Enabled, FromCores: 4, ToCores: 1, Memory: memory, Run: "driver-0"}, driver, c.settings)
		if got.FewerCores() != (c.want == "") || !strings.Contains(got.Refused, c.want) || !got.MoreMemory() {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// Deaths take a plan of an earlier run further. If it was in audit, they begin anew.
func TestCarriedPlan(t *testing.T) {
	for name, c := range map[string]struct {
		mode annotations.Mode
		dead []int // cores of executors that died
		want string
		run  string
	}{
		"nothing died":       {annotations.Enabled, nil, "0: 4 to 2", "driver-0"},
		"one with all cores": {annotations.Enabled, []int{4}, "0: 4 to 2", "driver-0"},
		"one with fewer":     {annotations.Enabled, []int{2}, "0: 4 to 1", ""},
		"in audit, one":      {annotations.Audit, []int{4}, "0: 4 to 2, audit", "driver-0"},
		"in audit, two":      {annotations.Audit, []int{4, 4}, "0: 4 to 2", ""},
	} {
		plan := annotations.RemedyPlan{Application: "spark-1", Profile: "0", Mode: c.mode, FromCores: 4, ToCores: 2, Until: noon.Add(3600e9), Run: "driver-0"}
		got := remedy.Plans([]annotations.RemedyPlan{plan}, application(deaths(oom.HeapOOM, c.dead...)))
		if say(got) != c.want || got[0].Run != c.run {
			t.Errorf("%s: %s, run %q", name, say(got), got[0].Run)
		}
	}
}

package remedy

import (
	"fmt"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
)

// Carry returns a plan that an earlier run of the same job needed as it may be for the
// executors of a new driver. It keeps the cores of Spark if the driver's settings speak
// against fewer, or if they are nil, because they are not known. Stages are not asked for:
// the earlier run had fewer cores, too.
func Carry(p annotations.RemedyPlan, driver spark.Pod, settings *spark.Settings) annotations.RemedyPlan {
	if !p.FewerCores() {
		return p
	}
	asSparkAsks := p
	asSparkAsks.ToCores = p.FromCores
	c := candidate{Application: &Application{Driver: driver, Settings: settings, Barrier: new(bool)}, plan: asSparkAsks, newest: &oom.Termination{}}
	why := "the recorder does not read the driver's ConfigMap (recorder.readConfigMaps), so it does not know how many cores a task needs"
	if settings != nil {
		why = c.refusal(ofCores)
	}
	if why == "" && p.ToCores < max(settings.MaxTaskCPUs, settings.TaskCPUs) {
		why = fmt.Sprintf("a task needs %d cores", max(settings.MaxTaskCPUs, settings.TaskCPUs))
	}
	if why != "" {
		p.ToCores, p.Refused = p.FromCores, why
	}
	return p
}

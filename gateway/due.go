package gateway

import (
	"slices"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/spark"
)

// Stage is how far a driver is from its release.
type Stage int

// The stages.
const (
	NotDead  Stage = iota // it runs, or ended well, or may start again
	Dead                  // the recorder has not handed it over yet
	Due                   // it must be released
	Released              // its mark says that nothing is left to do
)

// StageOf returns the stage of a driver for an instance of Kyuubi, and its death if it
// is dead. The recorder hands a driver over by writing the record's state; [DeathOf] is
// the proof. If the pod is being deleted it may never get a record, and if it is gone it
// cannot get one, so then the status alone decides. A mark from before the death is
// forged.
func StageOf(driver spark.Pod, gone bool, instance string) (Death, Stage) {
	d, dead := DeathOf(driver)
	mark := annotations.ReadReleaseMark(driver.Annotations[annotations.Released])
	switch {
	case !dead:
		return d, NotDead
	case mark.Gateway == Name && !mark.At.Before(d.At.Add(-clocks)) &&
		(mark.Registration == annotations.Deregistered || mark.Registration == annotations.Expired || slices.Contains(mark.Instances, instance)):
		return d, Released
	case gone || driver.DeletionTimestamp != nil || driver.Annotations[annotations.State] != "":
		return d, Due
	}
	return d, Dead
}

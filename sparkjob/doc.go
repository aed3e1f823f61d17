// Package sparkjob is the memory of what runs again and again. A SparkJob is an object
// that has the last runs of one job: how each ended, what died in it, which settings it
// had, and how much memory its processes took.
//
// It is pure. [NameOf] says which job a driver's application is a run of, [RunOf] what a
// driver's pod shows of the run, and [Status.Add] puts the run into the job. A run that is
// added twice, by two replicas or after a restart, counts once.
package sparkjob

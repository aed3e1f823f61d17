package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/spark-vitals/spark-vitals/driverui"
	"github.com/spark-vitals/spark-vitals/internal/job"
	"github.com/spark-vitals/spark-vitals/internal/paged"
	"github.com/spark-vitals/spark-vitals/recorder"
	"github.com/spark-vitals/spark-vitals/sparkjob"
)

func recorderCommand() *cobra.Command {
	var (
		c   recorder.Config
		api job.Flags

		readUI, keepRuns bool
	)
	command := &cobra.Command{
		Use:   "recorder",
		Short: "Record on each driver how it and its executors died",
		Long: `Record on each Spark driver's pod how it and its executors died, why, and what to do.
The record is annotations; there is also an Event, a metric and a log line.

Two replicas lose nothing if one of them is away, and write nothing twice.`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if c.Reconcile < time.Minute {
				return fmt.Errorf("--reconcile is %s; it must be at least 1m", c.Reconcile)
			}
			if c.Jobs.Runs < 1 || c.Jobs.Runs > sparkjob.MostRuns {
				return fmt.Errorf("--spark-job-runs is %d; it must be from 1 to %d", c.Jobs.Runs, sparkjob.MostRuns)
			}
			if c.Jobs.Keep < 24*time.Hour {
				return fmt.Errorf("--spark-job-keep is %s; it must be at least 24h", c.Jobs.Keep)
			}
			if os.Getenv("GOGC") == "" { // nearly all is the cache of pods, which hardly changes
				debug.SetGCPercent(25)
			}
			config, err := api.API()
			if err != nil {
				return err
			}
			c.Log = api.Log(command.ErrOrStderr())
			if c.LeaseNamespace, err = api.OwnNamespace(); err != nil {
				c.Log.Debug("no lease decides which replica writes first", "reason", err)
			}
			job.LimitMemory(c.Log)
			if readUI {
				c.DriverUI = driverui.New()
			}
			if c.Client, err = recorderClient(config); err != nil {
				return err
			}
			if keepRuns {
				if c.Jobs.Client, err = jobsClient(config); err != nil {
					return err
				}
			}
			return recorder.Run(command.Context(), c)
		},
	}
	flags := command.Flags()
	flags.BoolVar(&c.Everywhere, "everywhere", false, "record in all namespaces, not only where the label spark-vitals.io/inject is enabled or audit")
	flags.StringSliceVar(&c.Namespaces, "namespaces", nil, "watch and record only the pods of these namespaces, regardless of labels")
	flags.BoolVar(&c.ReadConfigMaps, "read-configmaps", false, "read spark.driver.memory of a dead driver from its ConfigMap instead of estimating it")
	flags.BoolVar(&readUI, "read-driver-ui", true, "ask drivers' UIs for the settings of applications and for what their executors measured")
	flags.BoolVar(&keepRuns, "spark-jobs", false, "keep the last runs of each job in a SparkJob")
	flags.IntVar(&c.Jobs.Runs, "spark-job-runs", sparkjob.DefaultRuns, "how many runs a SparkJob keeps")
	flags.DurationVar(&c.Jobs.Keep, "spark-job-keep", 30*24*time.Hour, "after how long without a run a SparkJob is deleted")
	api.AddNamespace(flags, "the lease by which one of several replicas writes first")
	flags.DurationVar(&c.Reconcile, "reconcile", 10*time.Minute, "how often all pods are looked at again")
	api.AddKubeconfig(flags)
	job.AddServers(flags, &c.MetricsBindAddress, &c.HealthProbeBindAddress)
	api.AddLogLevel(flags)
	return command
}

// recorderClient returns a client that speaks protobuf, because the recorder sees all
// pods. The recorder limits how many of its calls run at a time.
func recorderClient(config *rest.Config) (kubernetes.Interface, error) {
	config = paged.Bound(config)
	config.UserAgent = "spark-vitals-recorder/" + version
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	return kubernetes.NewForConfig(config)
}

// jobsClient returns a client of SparkJobs, which know no protobuf.
func jobsClient(config *rest.Config) (dynamic.Interface, error) {
	config = paged.Bound(config)
	config.UserAgent = "spark-vitals-recorder/" + version
	return dynamic.NewForConfig(config)
}

package driverui

import (
	"context"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/spark-vitals/spark-vitals/internal/bounded"
	"github.com/spark-vitals/spark-vitals/spark"
)

// maxProfiles is how many resource profiles are kept. A program builds a handful.
const maxProfiles = 64

// Settings asks a driver for the settings of its application.
func (c *Client) Settings(ctx context.Context, driver spark.Pod) (*spark.Settings, error) {
	var s *spark.Settings
	err := c.ask(ctx, driver, "/environment", maxSetting, func(d *jsontext.Decoder) (err error) {
		s, err = readSettings(d)
		return err
	})
	return s, err
}

func readSettings(d *jsontext.Decoder) (*spark.Settings, error) {
	conf, profiles, other := map[string]string{}, []profile{}, spark.Settings{}
	err := fields(d, func(name string) error {
		switch name {
		case "sparkProperties":
			return each(d, func() error { return readProperty(d, conf, &other) })
		case "resourceProfiles":
			return each(d, func() error {
				var p profile
				err := p.read(d)
				if len(profiles) < maxProfiles {
					profiles = append(profiles, p)
				}
				return err
			})
		}
		return d.SkipValue()
	})
	if err != nil {
		return nil, err
	}
	s := spark.SettingsOf(conf)
	s.OtherResources, s.Slots = other.OtherResources, other.Slots
	for _, p := range profiles {
		p.addTo(&s)
	}
	return &s, nil
}

// readProperty reads ["key","value"], and keeps it if it is about memory. Of others it
// notes in settings what they show.
func readProperty(d *jsontext.Decoder, conf map[string]string, settings *spark.Settings) error {
	var pair []string
	if err := value(d, &pair); err != nil {
		return err
	}
	if len(pair) == 2 {
		settings.ReadSetting(pair[0], pair[1])
	}
	if len(pair) == 2 && len(pair[1]) <= maxText && slices.Contains(spark.MemoryKeys, pair[0]) {
		conf[pair[0]] = pair[1]
	}
	return nil
}

// profile is a resource profile (ResourceProfile.scala). Amounts of memory are in MiB.
type profile struct {
	id              int64
	executor, tasks map[string]float64
}

func (p *profile) read(d *jsontext.Decoder) error {
	return fields(d, func(name string) (err error) {
		switch name {
		case "id":
			return value(d, &p.id)
		case "executorResources":
			p.executor, err = readAmounts(d)
		case "taskResources":
			p.tasks, err = readAmounts(d)
		default:
			err = d.SkipValue()
		}
		return err
	})
}

func readAmounts(d *jsontext.Decoder) (map[string]float64, error) {
	amounts := map[string]float64{}
	err := fields(d, func(name string) error {
		var resource struct {
			Amount float64 `json:"amount"`
		}
		err := value(d, &resource)
		if len(amounts) < maxProfiles && resource.Amount > 0 && resource.Amount < 1<<40 {
			amounts[bounded.Text(name)] = resource.Amount
		}
		return err
	})
	return amounts, err
}

// addTasks adds what a task of the profile takes.
func (p *profile) addTasks(s *spark.Settings) {
	for name, amount := range p.tasks {
		if name != "cpus" {
			s.OtherResources = true
			continue
		}
		cpus := int(amount)
		if float64(cpus) != amount {
			cpus = 0
		}
		if p.id == 0 {
			s.TaskCPUs = cpus
		}
		if min(s.MaxTaskCPUs, cpus) == 0 { // one is not known
			cpus, s.MaxTaskCPUs = 0, 0
		}
		s.MaxTaskCPUs = max(s.MaxTaskCPUs, cpus)
	}
	for name := range p.executor {
		s.OtherResources = s.OtherResources || !slices.Contains(executorResources, name)
	}
}

// executorResources are what an executor has besides devices (ResourceProfile.scala).
var executorResources = []string{"cores", "memory", "memoryOverhead", "pyspark.memory", "offHeap"}

// addTo adds the profile to an application's settings. What a profile does not set has
// the value of Spark's configuration. But memoryOverhead is then computed with its
// factor (BasicExecutorFeatureStep.scala,
// ResourceProfile.getResourcesForClusterManager).
func (p *profile) addTo(s *spark.Settings) {
	p.addTasks(s)
	m := s.Executor
	if p.id != 0 {
		m.Overhead = 0
	}
	set := func(size *int64, name string) {
		if amount, ok := p.executor[name]; ok {
			*size = int64(amount)
		}
	}
	set(&m.Heap, "memory")
	set(&m.Overhead, "memoryOverhead")
	set(&m.OffHeap, "offHeap")
	set(&m.PySpark, "pyspark.memory")
	if p.id == 0 {
		s.Executor = m
		return
	}
	if s.Profiles == nil {
		s.Profiles = map[string]spark.MemorySettings{}
	}
	s.Profiles[strconv.FormatInt(p.id, 10)] = m
}

package spark

import (
	"iter"
	"math"
	"slices"
	"strings"
)

// Driver configuration, as spark-submit passes it: a file of Java properties in a
// ConfigMap, which the driver's pod mounts.
const (
	PropertiesFile         = "spark.properties"
	driverConfVolume       = "spark-conf-volume-driver"
	driverMemory           = "spark.driver.memory"
	defaultDriverHeapBytes = 1 << 30 // spark.driver.memory is 1g by default
)

// ConfigMap returns the name of a driver's ConfigMap, or "" if its pod mounts none.
func (p Pod) ConfigMap() string {
	for _, v := range p.Spec.Volumes {
		if v.Name == driverConfVolume && v.ConfigMap != nil {
			return v.ConfigMap.Name
		}
	}
	return ""
}

// DriverHeap returns the driver's heap in bytes from its properties, or 0 if it cannot
// read the value. The program cannot change it later: spark.driver.memory counts only
// before the JVM starts. Nothing else is read from the file, which may hold secrets.
func DriverHeap(properties string) int64 {
	for key, value := range entries(properties) {
		if key == driverMemory {
			return sparkBytes(value)
		}
	}
	return defaultDriverHeapBytes
}

// PropertiesSettings returns the settings in a driver's properties. The program may
// change them before its SparkContext starts. Of the file only [MemoryKeys] and what
// [Settings.ReadSetting] notes are read, because it may hold secrets.
func PropertiesSettings(properties string) *Settings {
	conf := map[string]string{}
	for key, value := range entries(properties) {
		if slices.Contains(MemoryKeys, key) {
			conf[key] = value
		}
	}
	s := SettingsOf(conf)
	for key, value := range entries(properties) {
		s.ReadSetting(key, value)
	}
	return &s
}

// entries returns the keys and values of Java properties, one a line, as spark-submit
// writes them.
func entries(properties string) iter.Seq2[string, string] {
	return func(yield func(key, value string) bool) {
		for line := range strings.Lines(properties) {
			if key, value, found := strings.Cut(strings.TrimSpace(line), "="); found && !yield(strings.TrimSpace(key), strings.TrimSpace(value)) {
				return
			}
		}
	}
}

// sparkBytes reads a size as Spark does for most memory settings (JavaUtils.byteStringAs
// with MiB for a plain number): "512", "512m", "512mb", "4g". It returns 0 if it cannot
// read the value.
func sparkBytes(s string) int64 { return sparkBytesOr(s, mib) }

// sparkBytesOr reads a size in bytes. A plain number is in the given unit.
func sparkBytesOr(s string, unit int64) int64 {
	s = strings.ToLower(strings.TrimSpace(s))
	switch {
	case s == "":
		return 0
	case s[len(s)-1] >= '0' && s[len(s)-1] <= '9':
		if n := bytesOf(s); n <= math.MaxInt64/unit {
			return n * unit
		}
		return 0
	case s[len(s)-1] == 'b' && len(s) > 1:
		s = s[:len(s)-1]
	}
	return bytesOf(s)
}

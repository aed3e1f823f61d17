package spark

import (
	"regexp"

	"github.com/Masterminds/semver/v3"
)

// Version returns the Spark version on the pod's label, such as "3.5.9" or
// "4.0.0-preview1", or "" if there is none. It is the version that made the pod:
// spark-submit's for a driver, the driver's for an executor.
func (p Pod) Version() string { return p.Labels[VersionLabel] }

// IsAtLeast reports whether the pod's version of Spark is the given one, such as
// "4.1", or later. A version that cannot be read counts as older.
func (p Pod) IsAtLeast(version string) bool {
	v := ParseVersion(p.Version())
	return v != nil && !v.LessThan(semver.MustParse(version))
}

var versionNumbers = regexp.MustCompile(`^\d+(?:\.\d+){0,2}`)

// ParseVersion reads the first three numbers of a version, or returns nil if there are
// none. Previews, snapshots and vendors' builds ("3.5.1-amzn-0",
// "3.3.2.3.3.7190.0-91") count as the version that they are named after.
func ParseVersion(label string) *semver.Version {
	v, err := semver.NewVersion(versionNumbers.FindString(label))
	if err != nil {
		return nil
	}
	return v
}

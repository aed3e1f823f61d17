package spark

import (
	"math"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

const (
	localDirsEnv   = "SPARK_LOCAL_DIRS"
	localDirVolume = "spark-local-dir-" // and a number from 1
)

// LocalDir is a directory that Spark spills and shuffles to.
type LocalDir struct {
	Volume, Path string
	SizeLimit    int64 // in bytes, 0 without a limit
}

// LocalDirsInMemory are the local directories that lie in memory, one a volume (an
// emptyDir of medium Memory, which spark.kubernetes.local.dirs.tmpfs=true asks
// for). What is written there counts as memory of the container until it is
// deleted.
func (p Pod) LocalDirsInMemory() (dirs []LocalDir) {
	for _, mount := range p.Container().VolumeMounts {
		volume := p.memoryVolume(mount.Name)
		seen := slices.ContainsFunc(dirs, func(d LocalDir) bool { return d.Volume == mount.Name })
		if volume == nil || seen || !strings.HasPrefix(mount.Name, localDirVolume) && !p.holdsLocalDir(mount.MountPath) {
			continue
		}
		dir := LocalDir{Volume: mount.Name, Path: mount.MountPath}
		if volume.SizeLimit != nil {
			dir.SizeLimit = volume.SizeLimit.Value()
		}
		dirs = append(dirs, dir)
	}
	return dirs
}

// SizeOf is how much the directories can hold together, in bytes: without end if
// one of them has no limit.
func SizeOf(dirs []LocalDir) (size int64) {
	for _, dir := range dirs {
		if dir.SizeLimit <= 0 || dir.SizeLimit > math.MaxInt64-size {
			return math.MaxInt64
		}
		size += dir.SizeLimit
	}
	return size
}

func (p Pod) memoryVolume(name string) *corev1.EmptyDirVolumeSource {
	for i := range p.Spec.Volumes {
		if v := &p.Spec.Volumes[i]; v.Name == name && v.EmptyDir != nil && v.EmptyDir.Medium == corev1.StorageMediumMemory {
			return v.EmptyDir
		}
	}
	return nil
}

func (p Pod) holdsLocalDir(mountPath string) bool {
	value, _ := p.Env(localDirsEnv)
	mountPath = path.Clean(mountPath)
	return slices.ContainsFunc(strings.Split(value, ","), func(dir string) bool {
		dir = path.Clean(strings.TrimSpace(dir))
		return dir == mountPath || strings.HasPrefix(dir, strings.TrimSuffix(mountPath, "/")+"/")
	})
}

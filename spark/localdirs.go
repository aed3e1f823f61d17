package spark

import (
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

const (
	// LocalDirsEnv lists the directories, separated by commas.
	LocalDirsEnv   = "SPARK_LOCAL_DIRS"
	localDirVolume = "spark-local-dir-" // and a number from 1
)

// LocalDirsInMemory are the directories that Spark spills and shuffles to and that
// lie in memory (an emptyDir of medium Memory, which
// spark.kubernetes.local.dirs.tmpfs=true asks for). What is written there counts
// as memory of the container, until it is deleted.
func (p Pod) LocalDirsInMemory() (dirs []string) {
	for _, mount := range p.Container().VolumeMounts {
		if p.inMemory(mount.Name) && (strings.HasPrefix(mount.Name, localDirVolume) || p.holdsLocalDir(mount.MountPath)) {
			dirs = append(dirs, mount.MountPath)
		}
	}
	return dirs
}

func (p Pod) inMemory(volume string) bool {
	return slices.ContainsFunc(p.Spec.Volumes, func(v corev1.Volume) bool {
		return v.Name == volume && v.EmptyDir != nil && v.EmptyDir.Medium == corev1.StorageMediumMemory
	})
}

func (p Pod) holdsLocalDir(mountPath string) bool {
	value, _ := p.Env(LocalDirsEnv)
	mountPath = path.Clean(mountPath)
	return slices.ContainsFunc(strings.Split(value, ","), func(dir string) bool {
		dir = path.Clean(strings.TrimSpace(dir))
		return dir == mountPath || strings.HasPrefix(dir, strings.TrimSuffix(mountPath, "/")+"/")
	})
}

package spark

import (
	"math"
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

// LocalDirsInMemory returns the directories in memory that Spark spills and shuffles
// to: emptyDirs of medium Memory, as spark.kubernetes.local.dirs.tmpfs=true asks for.
// What is written there counts as memory of the container until it is deleted.
func (p Pod) LocalDirsInMemory() (dirs []string) {
	for _, mount := range p.Container().VolumeMounts {
		if p.inMemory(mount.Name) && (strings.HasPrefix(mount.Name, localDirVolume) || p.holdsLocalDir(mount.MountPath)) {
			dirs = append(dirs, mount.MountPath)
		}
	}
	return dirs
}

func (p Pod) inMemory(volume string) bool {
	return slices.ContainsFunc(p.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == volume && isMemory(v) })
}

func isMemory(v corev1.Volume) bool {
	return v.EmptyDir != nil && v.EmptyDir.Medium == corev1.StorageMediumMemory
}

// MemoryVolumesFit reports whether the emptyDirs of medium Memory that hold local
// directories are limited to so many bytes together.
func (p Pod) MemoryVolumesFit(bytes int64) bool {
	dirs := p.LocalDirsInMemory()
	for _, v := range p.Spec.Volumes {
		if !isMemory(v) || !slices.ContainsFunc(p.Container().VolumeMounts, func(m corev1.VolumeMount) bool {
			return m.Name == v.Name && slices.Contains(dirs, m.MountPath)
		}) {
			continue
		}
		if v.EmptyDir.SizeLimit == nil || v.EmptyDir.SizeLimit.Sign() <= 0 {
			return false
		}
		bytes -= min(v.EmptyDir.SizeLimit.Value(), math.MaxInt64/2)
		if bytes < 0 {
			return false
		}
	}
	return true
}

func (p Pod) holdsLocalDir(mountPath string) bool {
	value, _ := p.Env(LocalDirsEnv)
	mountPath = path.Clean(mountPath)
	return slices.ContainsFunc(strings.Split(value, ","), func(dir string) bool {
		dir = path.Clean(strings.TrimSpace(dir))
		return dir == mountPath || strings.HasPrefix(dir, strings.TrimSuffix(mountPath, "/")+"/")
	})
}

// LocalDirsOnClaim reports whether a claimed volume holds local directories.
func (p Pod) LocalDirsOnClaim() bool {
	return slices.ContainsFunc(p.Spec.Volumes, func(v corev1.Volume) bool {
		return strings.HasPrefix(v.Name, localDirVolume) && (v.PersistentVolumeClaim != nil || v.Ephemeral != nil)
	})
}

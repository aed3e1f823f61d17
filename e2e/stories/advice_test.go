package stories

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spark-vitals/spark-vitals/e2e/lab"
	"github.com/spark-vitals/spark-vitals/oom"
	"github.com/spark-vitals/spark-vitals/spark"
)

// The advice for each cause is given to a real spark-submit, as the message and the
// annotation advice say it. The pods are accepted and start, and the application
// succeeds.
func TestAdvice(t *testing.T) {
	s := story{
		name: "advice", why: "an application with every setting that is advised", host: true,
		app: app{file: "shuffle.py", args: []string{"1", "0"}, conf: conf("spark.executor.instances", "1")},
	}
	s.run(t, func(t *testing.T, version string) {
		class := localVolumes(t, version)
		settings := advised(t, version, class)
		for _, least := range []string{
			"spark.driver.memory", "spark.executor.memory", "spark.driver.memoryOverhead", "spark.executor.memoryOverhead", "spark.executor.cores",
			"spark.kubernetes.driver.annotation.spark-vitals.io/liveness.failureThreshold", "spark.kubernetes.driver.volumes.persistentVolumeClaim.spark-local-dir-1.options.claimName",
			"spark.kubernetes.executor.volumes.persistentVolumeClaim.spark-local-dir-1.options.sizeLimit",
			"spark.kubernetes.local.dirs.tmpfs", "spark.sql.autoBroadcastJoinThreshold", "spark.driver.extraJavaOptions", "spark.executor.extraJavaOptions",
		} {
			if _, ok := settings[least]; !ok {
				t.Errorf("nothing advises %s: %v", least, settings)
			}
		}
		a := s.app
		a.conf = maps.Clone(a.conf)
		maps.Copy(a.conf, settings)
		r := submit(t, s.name, version, a, true)
		r.untilDriverEnds(t)
		if r.driverEnd().ExitCode != 0 || !strings.Contains(r.log(t), "ROUND 0 100") {
			t.Errorf("%s does not succeed with %v", r.Namespace, settings)
		}
		r.Look(func(h *lab.History) {
			for _, p := range append(h.Pods(spark.Driver), h.Pods(spark.Executor)...) {
				claims := 0
				for _, v := range p.Last.Spec.Volumes {
					if v.PersistentVolumeClaim != nil {
						claims++
					}
				}
				if claims != 1 {
					t.Errorf("%s has %d claims", p.Last.Name, claims)
				}
			}
		})
		theTable.add(t, s.name, r, fmt.Sprintf("Spark accepts %d advised settings", len(settings)))
	})
}

// advised returns the settings that the advice for all causes names, for both roles.
func advised(t *testing.T, version, class string) map[string]string {
	t.Helper()
	driver := pod(t, version)
	all := map[string]string{}
	codes := map[oom.Cause]int32{oom.HeapOOM: 52, oom.JavaOOM: 52, oom.Failed: 1}
	for _, cause := range []oom.Cause{
		oom.OOMKilled, oom.ChildOOMKilled, oom.HeapOOM, oom.JavaOOM, oom.Killed, oom.Hung, oom.Failed, oom.EvictedMemory, oom.EvictedStorage, oom.EvictedEmptyDir, oom.EvictedPodStorage,
	} {
		for _, role := range []spark.Role{spark.Driver, spark.Executor} {
			code, ok := codes[cause]
			if !ok {
				code = 137
			}
			death := oom.Termination{
				Set: string(role), Role: role, Pod: "app", Cause: cause, ExitCode: &code, LimitMiB: 896, HeapMiB: 512, LocalDirsInMemory: cause == oom.OOMKilled,
				ProbeFailure: &oom.ProbeFailure{Probe: "liveness", Injected: role == spark.Driver, PeriodSeconds: 30, FailureThreshold: 20},
			}
			if role == spark.Executor {
				death.Set, death.Number, death.Cores = "executors", 1, 2
			}
			switch cause {
			case oom.HeapOOM:
				death.Said = "java.lang.OutOfMemoryError: Not enough memory to build and broadcast the table"
			case oom.JavaOOM:
				death.Said = "java.lang.OutOfMemoryError: Direct buffer memory"
			default:
			}
			var record oom.Record
			record.Add(death)
			for _, c := range record.Changes(driver) {
				if c.Next == "" {
					t.Errorf("%s of %s: the exact heap is known, and an amount is advised: %+v", cause, role, c)
				}
				all[c.Setting] = c.Next
			}
			sentences(all, record.Message(driver), class)
		}
	}
	all["spark.sql.autoBroadcastJoinThreshold"] = "-1" // a sentence says what -1 does
	return all
}

var (
	setting  = regexp.MustCompile(`(spark\.[A-Za-z0-9./_-]+)=(\S+?)[,.;)]*(?:\s|$)`)
	fewer    = regexp.MustCompile(`lower (\S+) from \d+ to (\d+)`)
	volume   = regexp.MustCompile(`four settings that begin with (\S+\.):`)
	ofVolume = regexp.MustCompile(`(options\.\w+|mount\.path)=(\S+?)[,.]?(?:\s|$)`)
	direct   = regexp.MustCompile(`Raise (-XX:MaxDirectMemorySize) in (\S+?),`)
)

// sentences adds what a reader would set.
func sentences(all map[string]string, message, class string) {
	for _, found := range setting.FindAllStringSubmatch(message, -1) {
		all[found[1]] = found[2]
	}
	for _, found := range fewer.FindAllStringSubmatch(message, -1) {
		all[found[1]] = found[2]
	}
	for _, found := range direct.FindAllStringSubmatch(message, -1) {
		all[found[2]] = found[1] + "=600m -XX:TieredStopAtLevel=1"
	}
	if prefix := volume.FindStringSubmatch(message); prefix != nil {
		for _, found := range ofVolume.FindAllStringSubmatch(message, -1) {
			all[prefix[1]+found[1]] = strings.ReplaceAll(found[2], "CLASS", class)
		}
	}
}

// pod returns a driver of a Spark version, as spark-submit made it.
func pod(t *testing.T, version string) spark.Pod {
	t.Helper()
	p, err := spark.PodOf(&corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{spark.RoleLabel: "driver", spark.VersionLabel: version}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: spark.DriverContainer, Args: []string{"driver", "--class", "org.apache.spark.deploy.PythonRunner"}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// localVolumes makes two volumes on this machine with a storage class of their own, for
// a driver and an executor to claim. No provisioner runs here.
func localVolumes(t *testing.T, version string) (class string) {
	t.Helper()
	class = "e2e-" + strings.ReplaceAll(version, ".", "")
	mode, access := storagev1.VolumeBindingImmediate, corev1.ReadWriteOncePod // what Spark claims since 4.0
	if version == oldest {
		access = corev1.ReadWriteOnce
	}
	if _, err := theLab.Client.StorageV1().StorageClasses().Create(t.Context(), &storagev1.StorageClass{
		ObjectMeta: metav1.ObjectMeta{Name: class}, Provisioner: "kubernetes.io/no-provisioner", VolumeBindingMode: &mode,
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	remove := metav1.DeleteOptions{}
	t.Cleanup(func() { _ = theLab.Client.StorageV1().StorageClasses().Delete(t.Context(), class, remove) })
	for i := range 3 {
		folder, err := os.MkdirTemp("", class)
		if err == nil {
			err = os.Chmod(folder, 0o777) //nolint:gosec // Spark's user is not ours
		}
		if err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("%s-%d", class, i)
		_, err = theLab.Client.CoreV1().PersistentVolumes().Create(t.Context(), &corev1.PersistentVolume{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec: corev1.PersistentVolumeSpec{
				StorageClassName: class, AccessModes: []corev1.PersistentVolumeAccessMode{access},
				Capacity:               corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("100Gi")},
				PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: folder}},
			},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = theLab.Client.CoreV1().PersistentVolumes().Delete(t.Context(), name, remove)
			_ = os.RemoveAll(folder)
		})
	}
	return class
}

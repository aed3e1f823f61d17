package pages

import (
	"os"
	"slices"
	"strings"
	"testing"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/e2e/cluster"
	"github.com/spark-vitals/spark-vitals/internal/pages"
)

// forKyuubi makes what docs/kyuubi.md assumes: namespaces, the values that it shows,
// and the files of the Secret.
func (s shell) forKyuubi(t *testing.T) {
	t.Helper()
	for _, namespace := range []string{"kyuubi", "spark"} {
		if err := controlPlane.Namespace(t.Context(), namespace, map[string]string{annotations.Inject: "enabled"}); err != nil {
			t.Fatal(err)
		}
	}
	err := kubelet.CoreV1().Secrets("spark-vitals").Delete(t.Context(), "spark-vitals-kyuubi", metav1.DeleteOptions{})
	if client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(kyuubiPage(t).Text, "```yaml\nreleaser:")
	values, _, _ := strings.Cut(rest, "```")
	s.write(t, "kyuubi.yaml", "releaser:"+values)
	for file, text := range map[string]string{"user": "ops", "password": "secret", "digest": "kyuubi:secret"} {
		s.write(t, file, text+"\n")
	}
}

func kyuubiPage(t *testing.T) pages.Page {
	t.Helper()
	all := must(pages.All())(t)
	return all[slices.IndexFunc(all, func(p pages.Page) bool { return p.Path == "docs/kyuubi.md" })]
}

// A user with the manifests of 0.1.0 changes to the chart as docs/kyuubi.md says. There
// is one set of objects afterwards, and the unfinished releases and the leader are
// kept.
func TestFromManifests(t *testing.T) {
	s := newShell(t, "default")
	s.forKyuubi(t)
	old := must(os.ReadFile("testdata/releaser-0.1.0.yaml"))(t)
	s.write(t, "old.yaml", string(old))
	s.works(t, "helm install spark-vitals charts/spark-vitals --namespace spark-vitals --create-namespace")
	s.works(t, "kubectl apply -f old.yaml")
	api := kubelet.CoreV1()
	journal := must(api.ConfigMaps("spark-vitals").Get(t.Context(), "spark-vitals-releaser", metav1.GetOptions{}))(t)
	journal.Data = map[string]string{"0a1b2c3d": "begun"}
	must(api.ConfigMaps("spark-vitals").Update(t.Context(), journal, metav1.UpdateOptions{FieldManager: "releaser"}))(t)
	leases := kubelet.CoordinationV1().Leases("spark-vitals")
	lease := must(leases.Get(t.Context(), "spark-vitals-releaser", metav1.GetOptions{}))(t)
	lease.Spec = coordinationv1.LeaseSpec{HolderIdentity: new("old")}
	must(leases.Update(t.Context(), lease, metav1.UpdateOptions{FieldManager: "releaser"}))(t)

	_, section, _ := strings.Cut(kyuubiPage(t).Text, "\n### From the manifests of 0.1.0\n")
	section, _, _ = strings.Cut(section, "\n#")
	steps := 0
	for line := range strings.Lines(section) {
		if command, ok := strings.CutPrefix(line, "    "); ok {
			command, _, _ = strings.Cut(strings.TrimSpace(command), "   #")
			s.works(t, command)
			steps++
		}
	}
	if steps < 2 {
		t.Fatalf("the page has %d steps", steps)
	}

	kept := must(api.ConfigMaps("spark-vitals").Get(t.Context(), "spark-vitals-releaser", metav1.GetOptions{}))(t)
	lease = must(leases.Get(t.Context(), "spark-vitals-releaser", metav1.GetOptions{}))(t)
	if kept.UID != journal.UID || kept.Data["0a1b2c3d"] != "begun" || lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity != "old" {
		t.Errorf("the journal holds %v, the lease %v", kept.Data, lease.Spec)
	}
	if left := ofReleaser(t, func(o metav1.ObjectMeta) bool { return o.Annotations["meta.helm.sh/release-name"] != "spark-vitals" }); len(left) > 0 {
		t.Errorf("not the chart's: %v", left)
	}
	if all := ofReleaser(t, func(metav1.ObjectMeta) bool { return true }); len(all) != 19 {
		t.Errorf("%d objects: %v", len(all), all)
	}
	bindings := must(kubelet.RbacV1().RoleBindings("spark").List(t.Context(), metav1.ListOptions{}))(t)
	if len(bindings.Items) != 1 || bindings.Items[0].RoleRef.Kind != "Role" {
		t.Errorf("where engines run: %v", bindings.Items)
	}
	s.works(t, "helm uninstall spark-vitals --namespace spark-vitals")
	if left := ofReleaser(t, func(metav1.ObjectMeta) bool { return true }); len(left) > 0 {
		t.Errorf("after helm uninstall there are still %v", left)
	}
}

// ofReleaser returns the objects of any kind that are named after the releaser or its
// configuration, without the user's own Secret.
func ofReleaser(t *testing.T, holds func(metav1.ObjectMeta) bool) []string {
	t.Helper()
	secret := must(kubelet.CoreV1().Secrets("spark-vitals").Get(t.Context(), "spark-vitals-kyuubi", metav1.GetOptions{}))(t)
	return must(cluster.Objects(t.Context(), controlPlane.Config, func(o metav1.ObjectMeta) bool {
		named := strings.HasPrefix(o.Name, "spark-vitals-releaser") || o.Name == "spark-vitals-kyuubi"
		return named && o.UID != secret.UID && holds(o)
	}))(t)
}

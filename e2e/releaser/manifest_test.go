package releaser

import (
	"path/filepath"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spark-vitals/spark-vitals/gateway/kyuubi"
)

// The manifest of docs/kyuubi.md is taken by an API server, its configuration by
// the releaser, and each file that it names is a key of the Secret.
func TestManifest(t *testing.T) {
	if err := controlPlane.Apply(t.Context(), "gateway/releaser/deployment.yaml"); err != nil {
		t.Fatal(err)
	}
	config, err := api.CoreV1().ConfigMaps("spark-vitals").Get(t.Context(), "spark-vitals-kyuubi", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := kyuubi.ParseConfig([]byte(config.Data["kyuubi.yaml"]))
	if err != nil {
		t.Fatal(err)
	}
	secret, err := api.CoreV1().Secrets("spark-vitals").Get(t.Context(), "spark-vitals-kyuubi", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{c.ZooKeeper.DigestFile, c.Servers.Basic.UserFile, c.Servers.Basic.PasswordFile} {
		if filepath.Dir(file) != "/etc/spark-vitals/secret" || len(secret.Data[filepath.Base(file)]) == 0 {
			t.Errorf("%s is not in the Secret", file)
		}
	}
}

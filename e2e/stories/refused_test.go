package stories

import (
	"fmt"
	"strings"
	"testing"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/e2e/lab"
)

// With spark.ui.port=0 Spark itself makes a pod that the API server refuses. With
// spark-vitals the refusal is the same.
func TestRefused(t *testing.T) {
	s := story{name: "ui-port-0", why: "the UI on any port: Spark makes an invalid pod"}
	s.run(t, func(t *testing.T, version string) {
		for _, mode := range []string{"", "enabled"} {
			namespace := fmt.Sprintf("%s-%s-%s", s.name, strings.ReplaceAll(version, ".", ""), "mode"+mode)
			labels := map[string]string{}
			if mode != "" {
				labels[annotations.Inject] = mode
			}
			if err := theLab.NewNamespace(t.Context(), namespace, labels); err != nil {
				t.Fatal(err)
			}
			defer remove(t, namespace)
			err := theLab.Submit(t.Context(), lab.App{
				Namespace: namespace, Name: "app", Version: version, File: "pi", Conf: conf("spark.ui.port", "0"),
			})
			if err == nil || !strings.Contains(err.Error(), "containerPort: Required value") {
				t.Errorf("with mode %q: %v", mode, err)
			}
		}
	})
}

package stories

import (
	"strings"
	"testing"
)

// What "helm test" says of the chart that the stories run under: a Spark pod in
// an opted-in namespace would be injected, and the recorder can write.
func TestInstall(t *testing.T) {
	s := story{name: "helm-test", why: "the installation says of itself that it works", ci: newest, versions: []string{newest}}
	s.run(t, func(t *testing.T, _ string) {
		logs, err := theLab.TestInstallation()
		if err != nil {
			t.Errorf("%v\n%s", err, logs)
		}
		t.Log(strings.TrimSpace(logs))
	})
}

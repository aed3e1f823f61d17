package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/spark-vitals/spark-vitals/internal/captured"
	"github.com/spark-vitals/spark-vitals/internal/golden"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"spark-vitals": main, "kubectl-spark_vitals": main})
}

// Each file of testdata is a story of the command line. The captured reviews
// are in the folder reviews.
func TestCommandLine(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		UpdateScripts:       golden.Updating(),
		Setup: func(env *testscript.Env) error {
			for _, review := range captured.Reviews() {
				path := filepath.Join(env.WorkDir, "reviews", review.Name+".json")
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					return err
				}
				if err := os.WriteFile(path, review.JSON, 0o644); err != nil {
					return err
				}
			}
			return nil
		},
	})
}

// By default nothing is ever refused.
func TestValidationWarnsByDefault(t *testing.T) {
	if flag := webhookCommand().Flags().Lookup("validation"); flag.DefValue != "warn" {
		t.Errorf("--validation is %q by default", flag.DefValue)
	}
	if deny, err := denies("warn"); deny || err != nil {
		t.Errorf("warn denies: %v, %v", deny, err)
	}
	if deny, err := denies("deny"); !deny || err != nil {
		t.Errorf("deny does not: %v, %v", deny, err)
	}
}

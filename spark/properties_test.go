package spark_test

import (
	"testing"

	"github.com/spark-vitals/spark-vitals/spark"
)

func TestDriverHeap(t *testing.T) {
	tests := map[string]int64{ // MiB
		"spark.driver.memory=600m\n":                         600,
		"#comment\nspark.app.name=x\nspark.driver.memory=4g": 4096,
		"spark.driver.memory = 2gb":                          2048,
		"spark.driver.memory=512":                            512,
		"spark.driver.memoryOverhead=1g\n":                   1024, // spark.driver.memory is 1g by default
		"spark.driver.memory=much":                           0,
		"spark.driver.memory=":                               0,
		"spark.driver.memory=b":                              0,
	}
	for properties, want := range tests {
		if got := spark.DriverHeap(properties) >> 20; got != want {
			t.Errorf("%q: %d, want %d", properties, got, want)
		}
	}
}

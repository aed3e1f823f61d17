package compile

import (
	"slices"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/policy"
	"github.com/spark-vitals/spark-vitals/spark"
)

// serviceVariables are those of the policy for Services.
func serviceVariables(p *policy.Policy) []variable {
	return slices.Concat(
		// Spark makes the selector of all the driver's labels.
		metadata("object.spec.?selector.orValue({})"),
		chosenRule(p, spark.Driver, conditionsOf, matchingService),
		[]variable{
			{"ofDriver", "Spark made the Service for a driver.", `
object.metadata.?labels[?'` + spark.ApplicationLabel + `'].orValue('') != '' &&
variables.labels[?'` + spark.ApplicationLabel + `'].orValue('') == object.metadata.labels['` + spark.ApplicationLabel + `'] &&
variables.labels[?'` + spark.RoleLabel + `'].orValue('') == 'driver' && object.spec.?clusterIP.orValue('') == 'None'`},
			{"publishes", "Executors find the driver by its name whether it is ready or not.", `
variables.ofDriver && variables.mode != 'disabled' &&
(` + toggle("publishNotReadyAddresses", p, spark.Driver, func(r *policy.Rule) bool { return r.PublishNotReadyAddresses }) + ")"},
			{"injected", "The stamp.", `
'{' + (variables.mode == 'audit' ? '"mode":"audit",' : '') + '"rule":"' + variables.rule + '","set":["publishNotReadyAddresses"]}'`},
		},
		stampsOf("variables.publishes", []branch{{annotations.Injected, "variables.injected"}}),
	)
}

// servicePatch changes the Service of a driver, and no other.
const servicePatch = `!variables.ofDriver ? [] :
` + annotationPatch + ` +
(variables.publishes && variables.mode == 'enabled' && !object.spec.?publishNotReadyAddresses.orValue(false) ?
  [JSONPatch{op: 'add', path: '/spec/publishNotReadyAddresses', value: true}] : [])`

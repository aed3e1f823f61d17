package patches

import (
	"gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"

	"github.com/spark-vitals/spark-vitals/policy"
	"github.com/spark-vitals/spark-vitals/spark"
)

// ApplyToService sets publishNotReadyAddresses on the headless Service of a driver, so
// that executors find a driver that is not ready. Without it an unready driver has no
// DNS name, and each executor that starts meanwhile dies of UnknownHostException:
// Spark waits one second for readiness and then starts them anyway. Only DNS
// changes. It acts only if the rule requires it, and only on Services that Spark made
// (spark-app-selector, a selector on a driver, clusterIP None:
// DriverServiceFeatureStep.scala).
func ApplyToService(service *corev1.Service, choice policy.Choice) Result {
	const field = "publishNotReadyAddresses"
	a := annotated{meta: &service.ObjectMeta}
	r := report{warnings: choice.Warnings}
	if choice.Rule != nil && choice.Rule.PublishNotReadyAddresses && IsDriverService(service) {
		if !service.Spec.PublishNotReadyAddresses && choice.Mode == policy.Enabled {
			service.Spec.PublishNotReadyAddresses = true
			a.operations = append(a.operations, jsonpatch.NewOperation("add", "/spec/publishNotReadyAddresses", true))
		}
		r.did(field, "executors find the driver by its name whether it is ready or not")
		a.stampReport(choice, &r)
	}
	a.writeStamps()
	return a.result(choice, r)
}

// IsDriverService reports whether Spark made the Service for a driver.
func IsDriverService(service *corev1.Service) bool {
	selector := service.Spec.Selector
	return service.Labels[spark.ApplicationLabel] != "" &&
		selector[spark.ApplicationLabel] == service.Labels[spark.ApplicationLabel] &&
		selector[spark.RoleLabel] == string(spark.Driver) &&
		service.Spec.ClusterIP == corev1.ClusterIPNone
}

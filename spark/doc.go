// Package spark reads a pod that Apache Spark made: its role, the container that Spark
// runs in, the driver of an executor, the ports and the memory. It knows only Spark's
// side and reads nothing but the pod.
//
// Spark on Kubernetes runs as one driver pod and many executor pods. They are made by
// spark-submit, by the driver itself, by a StatefulSet (Spark's "statefulset" pod
// allocator) or by an operator. All of them have the label spark-role. What Spark
// writes into them is in its sources under resource-managers/kubernetes/core:
// Constants.scala for the names, features/BasicDriverFeatureStep.scala and
// features/BasicExecutorFeatureStep.scala for the shape. It is the same from Spark 3.3
// to 4.3, unless a function here says otherwise.
//
// Anyone may have written a pod, so every function is total and returns the zero value
// for what it does not find.
package spark

// Package policy holds the rules: which pods get which probes and settings.
//
// A policy is YAML. [Parse] reads it once, and nothing changes it afterwards:
//
//	ruleSet: default            # a ready-made set: default, gentle, strict or ui
//	rules:                      # your own rules, tried before those of the set
//	- name: streaming
//	  match:
//	    role: driver            # driver or executor; the only required field
//	    labels:                 # a label selector on the pod's labels
//	      matchLabels: {team: streaming}
//	    mainClass: com.acme.*   # of a driver; * and ? as in a shell
//	    sparkVersion: ">=4.1"   # see github.com/Masterminds/semver
//	  probes:                   # Kubernetes' own Probe, to the letter
//	    startup: {tcpSocket: {port: driver-rpc-port}, periodSeconds: 2, failureThreshold: 2147483647}
//	    readiness: ...
//	    liveness: ...           # in exec.command $(port:NAME) is replaced by a declared port
//	  why:                      # a reason for each probe, shown by "spark-vitals preview"
//	    startup: Ready when the driver's RPC port is open
//	  memoryAnnotations: true           # stamp how the memory is divided
//	  blockManagerPort: {from: 20000, to: 29999} # executors: one real port an application
//	  processTreeMetrics: true          # executors: measure the memory of each kind of process
//	  publishNotReadyAddresses: true    # drivers: on the driver's Service
//	  fallbackToLogsOnError: true       # terminationMessagePolicy
//	  exitOnOutOfMemoryError: true      # drivers: -XX:+ExitOnOutOfMemoryError
//	  logStall: {after: 30m}            # drivers: report a log that is silent for longer
//	  remedy: {mode: audit, maxMemory: 16Gi} # executors: fewer cores and more memory after deaths
//	  acceptUnreadyDriver: true         # drivers: allow probes that cost it its DNS name
//	  acceptEarlyEnd: true              # allow probes that end what may be healthy
//
// A rule does only what it names. The first rule that matches a pod applies to it. A
// policy with neither ruleSet nor rules is the set "default". If Parse accepts a rule,
// the API server accepts its result on any pod.
//
// Annotations of a pod change its rule; see [Policy.For].
package policy

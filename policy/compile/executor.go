package compile

import (
	"slices"

	"github.com/spark-vitals/spark-vitals/policy"
	"github.com/spark-vitals/spark-vitals/spark"
)

// executorVariables are those of the policy for executors.
func executorVariables(p *policy.Policy) []variable {
	const role = spark.Executor
	return slices.Concat(
		metadata("object.metadata.?labels.orValue({})"),
		container(role),
		chosenRule(p, role, conditionsOfPod, matchingPod),
		[]variable{
			{"limit", "The memory limit in bytes, or 0.", quantity("limits")},
			{"heapText", "", last(spark.ExecutorMemory) + ".lowerAscii()"},
			{"heapUnit", "", "{'k': 1024, 'm': 1048576, 'g': 1073741824, 't': 1099511627776}[?variables.heapText.find('[kmgt]$')].orValue(1)"},
			{"heap", "The JVM's heap in bytes, or 0.", `
!variables.heapText.matches('^[+]?[0-9]{1,18}[kmgt]?$') || int(variables.heapText.find('[0-9]+')) > 9223372036854775807 / variables.heapUnit ? 0 :
int(variables.heapText.find('[0-9]+')) * variables.heapUnit`},
			memory(p, role),
		},
		blockManagerPort(p),
		processTreeMetrics(p),
		[]variable{
			{"newEnv", "Variables that are added. Every entrypoint of Spark's collects SPARK_JAVA_OPT_n.", `
(variables.movesPort ? [{'name': 'SPARK_JAVA_OPT_' + string(variables.nextOption), 'value': '` + spark.BlockManagerOption + `' + string(variables.port)}] : []) +
(variables.addsMetrics ? [{'name': 'SPARK_JAVA_OPT_' + string(variables.nextOption + (variables.movesPort ? 1 : 0)), 'value': '` + treeOption + `'}] : [])`},
			terminationMessage(p, role),
		},
		probes(p, role),
		podStamps(role, nil),
		[]variable{changes(`variables.movesPort ? [{'path': dyn('/ports/' + string(variables.declared) + '/containerPort'), 'value': dyn(variables.port)}] : []`)},
	)
}

// blockManagerPort says what patches.blockManagerPort does.
func blockManagerPort(p *policy.Policy) []variable {
	const role = spark.Executor
	var from, to []branch
	for _, rule := range rulesOf(p, role) {
		if r := rule.BlockManagerPort; r != nil && *r != defaultPorts {
			from = append(from, branch{rule.Name, itoa(r.From)})
			to = append(to, branch{rule.Name, itoa(r.To)})
		}
	}
	return []variable{
		{"javaOptions", "", "variables.env.filter(e, e.name.startsWith('" + spark.JavaOptionEnvPrefix + "')).map(e, e.?value.orValue(''))"},
		{"nextOption", "A number that no SPARK_JAVA_OPT_n has.", `
([-1] + variables.env.filter(e, e.name.matches('^SPARK_JAVA_OPT_[+]?[0-9]{1,18}$')).map(e, int(e.name.substring(15))).filter(n, n < 1048576)).max() + 1`},
		{"chosenPorts", "The ports that the user or an earlier round chose; 0 is a random one.", `
variables.javaOptions.filter(o, o.startsWith('` + spark.BlockManagerOption + `')).map(o, o.substring(26))
  .map(o, o.matches('^[+]?[0-9]{1,18}$') && int(o) <= 65535 ? int(o) : 0)`},
		{"listens", "The port on which the executor listens by itself, or 0.", "variables.chosenPorts.exists(p, p != variables.chosenPorts[0]) ? 0 : variables.chosenPorts[?0].orValue(0)"},
		{"declared", "The index of the port that Spark declares for it, or -1.", `
variables.container.?ports.orValue([]).map(p, p.?name.orValue('') == '` + spark.BlockManagerPort + `' && p.?protocol.orValue('TCP') == 'TCP').indexOf(true)`},
		{"declares", "Its number, or 0.", "variables.declared >= 0 ? variables.container.ports[variables.declared].containerPort : 0"},
		{"application", "A longer label is none, and the API server refuses it later: without the bound it would first be computed with for minutes.",
			"[variables.labels[?'" + spark.ApplicationLabel + "'].orValue('')].filter(a, size(a) <= 63)[?0].orValue('')"},
		{"from", "The range from which each application gets a port.", ofRule(from, itoa(defaultPorts.From))},
		{"to", "", ofRule(to, itoa(defaultPorts.To))},
		{"taken", "The ports of the range that the pod declares for others.", `
(object.spec.?initContainers.orValue([]).map(c, c.?ports.orValue([]).map(p, p.containerPort)) +
  lists.range(size(object.spec.containers)).map(i, object.spec.containers[i].?ports.orValue([])
    .filter(p, i != variables.index || p.?name.orValue('') != '` + spark.BlockManagerPort + `').map(p, p.containerPort)))
  .map(ports, ports.filter(p, p >= variables.from && p <= variables.to)).flatten()`},
		{"start", "The application's port: a number from the letters of its id and their places.", `
variables.from + lists.range(size(variables.application)).map(i,
  ('-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz'.indexOf(variables.application.charAt(i)) + 1) *
    (i + 1) * (i + 1) * (i + 1)).sum() % 65521 % (variables.to - variables.from + 1)`},
		{"free", "How far after it the first free ports are: it, or one next to a port that is taken.", `
!(variables.start in variables.taken) ? [0] :
([variables.start] + variables.taken.map(p, p == variables.to ? variables.from : p + 1)).filter(p, !(p in variables.taken))
  .map(p, (p - variables.start + variables.to - variables.from + 1) % (variables.to - variables.from + 1))`},
		{"port", "The first free port, or 0.", `
size(variables.free) == 0 ? 0 :
variables.from + (variables.start - variables.from + variables.free.min()) % (variables.to - variables.from + 1)`},
		{"blockManagerPort", "One real port for the executors of an application.", `
!(` + toggle("blockManagerPort", p, role, func(r *policy.Rule) bool { return r.BlockManagerPort != nil }) + `) ? '' :
variables.hostNetwork || variables.declared >= 0 && variables.container.ports[variables.declared].?hostPort.orValue(0) != 0 ? 'a port of the host may be taken by another' :
variables.listens > 0 && variables.listens == variables.declares &&
  (variables.listens == variables.port || variables.earlier.contains('"blockManagerPort"') && variables.listens >= variables.from && variables.listens <= variables.to) ? 'set' :
variables.env.exists(e, e.?value.orValue('').contains('` + spark.BlockManagerOption + `')) ? "the user's own" :
variables.application == '' ? 'the pod has no label ` + spark.ApplicationLabel + `' :
variables.declared < 0 ? 'the container declares no port ` + spark.BlockManagerPort + `' :
variables.hasCommand ? 'the container has a command of its own' :
variables.port == 0 ? 'other containers of the pod declare all ports of the range' :
'set'`},
		{"movesPort", "", "variables.blockManagerPort == 'set' && variables.listens == 0"},
	}
}

// defaultPorts are those of the set "default", and of a pod that asks for a port.
var defaultPorts = policy.PortRange{From: 20000, To: 29999}

const treeOption = "-Dspark.executor.processTreeMetrics.enabled=true"

// processTreeMetrics says what patches.processTreeMetrics does.
func processTreeMetrics(p *policy.Policy) []variable {
	return []variable{
		{"unfitForMetrics", "Earlier versions of Spark measure wrongly, or need bash.", `
` + before("0.0.0") + ` ? 'the label ` + spark.VersionLabel + ` has no version that can be read' :
` + before("3.5.7") + ` || ` + atLeast("4.0.0") + ` && ` + before("4.0.1") + ` ? 'this version of Spark measures wrongly (SPARK-52776)' :
` + before("4.0.0") + ` ? 'with Spark 3.5 an executor without bash in its image would be lost' :
''`},
		{"processTreeMetrics", "The executor measures the memory of its processes.", `
!(` + toggle("processTreeMetrics", p, spark.Executor, func(r *policy.Rule) bool { return r.ProcessTreeMetrics }) + `) ? '' :
variables.unfitForMetrics != '' && !('processTreeMetrics' in variables.settings) && !variables.earlier.contains('"processTreeMetrics"') ? '' :
'` + treeOption + `' in variables.javaOptions && variables.earlier.contains('"processTreeMetrics"') ? 'set' :
variables.env.exists(e, e.?value.orValue('').contains('spark.executor.processTreeMetrics')) ? "the user's own" :
variables.hasCommand ? 'the container has a command of its own' :
variables.unfitForMetrics != '' ? variables.unfitForMetrics :
'set'`},
		{"addsMetrics", "", "variables.processTreeMetrics == 'set' && !('" + treeOption + "' in variables.javaOptions)"},
	}
}

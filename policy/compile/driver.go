package compile

import (
	"cmp"
	"slices"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/policy"
	"github.com/spark-vitals/spark-vitals/spark"
)

// driverVariables are those of the policy for drivers.
func driverVariables(p *policy.Policy) []variable {
	const role = spark.Driver
	return slices.Concat(
		metadata("object.metadata.?labels.orValue({})"),
		container(role),
		submitArguments,
		chosenRule(p, role, conditionsOfPod, matchingPod),
		driverMemory,
		[]variable{memory(p, role), terminationMessage(p, role)},
		exitOnOutOfMemoryError(p),
		logStall(p),
		probes(p, role),
		podStamps(role, []branch{{annotations.LogStallAfter, "variables.logStall == 'set' && variables.mode == 'enabled' ? string(variables.logStallAfter) : ''"}}),
		[]variable{changes(`variables.appendsJDKOptions ? [{'path': dyn('/env/' + string(variables.jdkOptions) + '/value'), 'value': dyn((variables.env[variables.jdkOptions].?value.orValue('') + ' ` + exitOption + `').trim())}] : []`)},
	)
}

// submitArguments read a driver's arguments as spark-submit does. Each argument ends with
// a byte 0, which no argument has.
var submitArguments = []variable{
	{"arguments", "What follows the role, each argument with a byte 0 at its end.", `
variables.container.?args.orValue([]).map(a, a + '\x00').join().replace(
  variables.container.?args[?0].optMap(a, a.startsWith('-') ? '' : a + '\x00').orValue(''), '', 1)`},
	{"read", "As much of them as the budget allows. An argument that is cut has no byte 0, so it is none.", `
variables.arguments.substring(0, [size(variables.arguments), ` + itoa(readCharacters) + `].min())`},
	{"options", "The options of spark-submit before the program, each with its value: --name=VALUE or two arguments.", `
variables.read.find(r'^(?:` + submitOption + `)*').findAll(r'` + submitOption + `')`},
	{"mainClass", "", `
variables.options.filter(o, o.matches(r'^--class[=\x00]')).reverse()[?0].optMap(o, o.substring(8).replace('\x00', '')).orValue('')`},
}

// readCharacters is how much of a driver's arguments is read.
const readCharacters = 1 << 16

const submitOption = `(?:--(?:help|load-spark-defaults|supervise|usage-error|verbose|version)|-h|-v)\x00|-[^=\x00]*=[^\x00]*\x00|-[^=\x00]*\x00[^\x00]*\x00`

// driverMemory says what spark.Pod.Memory does for a driver, in bytes.
var driverMemory = []variable{
	{"limit", "The memory limit in bytes, or 0.", quantity("limits")},
	{"request", "", quantity("requests")},
	{"byHand", "Not spark-submit but a platform or a person made the pod, so its limit does not follow from the heap.", `
variables.options.exists(o, o.matches(r'^--master[=\x00]')) && !variables.options.exists(o, o.matches(r'^--properties-file[=\x00]'))`},
	{"memoryArgument", "What the arguments say about the heap; the last counts.", `
variables.options.filter(o, o.matches(r'^(?:--driver-memory[=\x00]|(?:--conf|-c)[=\x00]spark\.driver\.memory[=\x00])')).reverse()[?0]
  .optMap(o, o.substring(o.startsWith('--driver-memory') ? 16 : o.startsWith('--conf') ? 27 : 23).replace('\x00', '')).orValue('')`},
	{"heapText", "", `
(variables.memoryArgument != '' ? variables.memoryArgument : ` + last("SPARK_DRIVER_MEMORY") + `).trim().lowerAscii()`},
	{"heapUnit", "A plain number is in MiB.", `
{'': 1048576, 'b': 1, 'k': 1024, 'kb': 1024, 'm': 1048576, 'mb': 1048576, 'g': 1073741824, 'gb': 1073741824, 't': 1099511627776, 'tb': 1099511627776}
  [?variables.heapText.find('[a-z]*$')].orValue(0)`},
	{"given", "The heap that the pod shows, or 0.", `
variables.heapUnit == 0 || !variables.heapText.matches('^[+]?[0-9]{1,18}[a-z]*$') || int(variables.heapText.find('[0-9]+')) > 9223372036854775807 / variables.heapUnit ? 0 :
int(variables.heapText.find('[0-9]+')) * variables.heapUnit`},
	{"askedMemory", "What Spark asked for in MiB: the request, if others changed the limit.", `
(variables.request > 0 && (variables.limit == 0 || variables.request < variables.limit) ? variables.request : variables.limit) / 1048576`},
	{"tenths", "Spark adds a tenth of the heap for other memory, and four tenths for Python and R.", `
variables.mainClass in ['org.apache.spark.deploy.PythonRunner', 'org.apache.spark.deploy.RRunner'] ? 4 : 1`},
	{"guess", "The heap in MiB from which Spark's formula gives what it asked for, within 2 MiB.", `
(variables.askedMemory - 384) * variables.tenths / 10 > 384 ?
(variables.askedMemory * 10 + 9 + variables.tenths) / (10 + variables.tenths) :
variables.askedMemory - 384`},
	{"inverted", "Exactly that. Spark starts with no less than 450 MiB.", `
[[variables.guess, variables.guess - 1, variables.guess - 2].filter(h,
  h + (h * variables.tenths / 10 > 384 ? h * variables.tenths / 10 : 384) == variables.askedMemory)[?0].orValue(variables.guess)].filter(h, h >= 450)[?0].orValue(0) * 1048576`},
	{"estimated", "", "variables.memoryArgument == '' && !variables.byHand"},
	{"heap", "The JVM's heap in bytes, or 0.", "variables.estimated ? variables.inverted : variables.given"},
}

const exitOption = "-XX:+ExitOnOutOfMemoryError"

// exitOnOutOfMemoryError says what patches.exitOnOutOfMemoryError does.
func exitOnOutOfMemoryError(p *policy.Policy) []variable {
	return []variable{
		{"jdkOptions", "The index of the variable JDK_JAVA_OPTIONS that counts, or -1.", "variables.env.map(e, e.name).lastIndexOf('JDK_JAVA_OPTIONS')"},
		{"exits", "", "variables.jdkOptions >= 0 && variables.env[variables.jdkOptions].?value.orValue('').contains('" + exitOption + "')"},
		{"exitOnOutOfMemoryError", "The JVM ends at the first exhaustion of its heap.", `
!(` + toggle("exitOnOutOfMemoryError", p, spark.Driver, func(r *policy.Rule) bool { return r.ExitOnOutOfMemoryError }) + `) ? '' :
variables.jdkOptions < 0 && size(variables.container.?envFrom.orValue([])) > 0 ? 'envFrom may bring JDK_JAVA_OPTIONS, and the variable would replace it' :
variables.jdkOptions < 0 ? 'set' :
has(variables.env[variables.jdkOptions].valueFrom) ? 'JDK_JAVA_OPTIONS comes from elsewhere (valueFrom)' :
variables.exits && variables.earlier.contains('"exitOnOutOfMemoryError"') ? 'set' :
variables.env[variables.jdkOptions].?value.orValue('').matches('-XX:[+-](Exit|Crash)OnOutOfMemoryError|-XX:OnOutOfMemoryError=') ? "the user's own" :
'set'`},
		{"appendsJDKOptions", "", "variables.exitOnOutOfMemoryError == 'set' && variables.jdkOptions >= 0 && !variables.exits"},
		{"newEnv", "Variables that are added.", `
variables.exitOnOutOfMemoryError == 'set' && variables.jdkOptions < 0 ? [{'name': 'JDK_JAVA_OPTIONS', 'value': '` + exitOption + `'}] : []`},
	}
}

// logStall says what patches.logStall does.
func logStall(p *policy.Policy) []variable {
	var after []branch
	for _, rule := range rulesOf(p, spark.Driver) {
		if rule.LogStall != nil {
			after = append(after, branch{rule.Name, text(cmp.Or(rule.LogStall.After, defaultLogStall))})
		}
	}
	return []variable{
		{"logStall", "The stall watch reports the driver if its log is silent for longer.", toggle("logStall", p, spark.Driver, func(r *policy.Rule) bool { return r.LogStall != nil }) + " ? 'set' : ''"},
		{"logStallAfter", "The time of the setting, from a minute to a week, or that of the rule. A duration that is too long would be an error.", `
[variables.settings[?'logStall.after'].orValue('')]
  .filter(t, size(t) <= 20 && t.matches('^([0-9]{1,6}[hms])+$') && duration(t) >= duration('1m') && duration(t) <= duration('168h'))[?0]
  .orValue(` + ofRule(after, text(defaultLogStall)) + `)`},
	}
}

const defaultLogStall = "30m"

package compile

import (
	"slices"
	"strings"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/policy"
	"github.com/spark-vitals/spark-vitals/spark"
)

// metadata are the variables of any object.
func metadata(labels string) []variable {
	return []variable{
		{"annotations", "The object's own annotations, and those of spark-vitals without their prefix.", "object.metadata.?annotations.orValue({})"},
		{"settings", "", "variables.annotations.transformMapEntry(key, value, key.startsWith('" + annotations.Prefix + "'), {key.substring(" + itoa(len(annotations.Prefix)) + "): value})"},
		{"labels", "The labels that rules match.", labels},
		{"mode", "The lesser of the namespace's mode and the object's own.", `
variables.settings[?'inject'].orValue('') in ['disabled', 'audit'] ? variables.settings['inject'] :
namespaceObject.metadata.?labels[?'` + annotations.Inject + `'].orValue('disabled')`},
		{"versionText", "", "variables.labels[?'" + spark.VersionLabel + "'].orValue('').find('^[0-9]+([.][0-9]+){0,2}')"},
		{"version", "Spark's version: its first three numbers. One that cannot be read is below all others.", `
isSemver(variables.versionText, true) ? semver(variables.versionText, true) : semver('` + unknown + `')`},
	}
}

// container finds Spark's container, as spark.PodOf does.
func container(role spark.Role) []variable {
	env, name := "SPARK_DRIVER_BIND_ADDRESS", spark.DriverContainer
	if role == spark.Executor {
		env, name = "SPARK_EXECUTOR_ID", spark.ExecutorContainer
	}
	return []variable{
		{"byEnvironment", "Spark's container has the variable that only Spark sets.", `
lists.range(size(object.spec.containers)).filter(i, object.spec.containers[i].?env.orValue([]).exists(e, e.name == '` + env + `'))`},
		{"byArgument", "Of these, or else of all, it has the role as its first argument.", `
(size(variables.byEnvironment) > 0 ? variables.byEnvironment : lists.range(size(object.spec.containers)))
  .filter(i, object.spec.containers[i].?args[?0].orValue('') == '` + string(role) + `')`},
		{"byName", "Of these, or else of those before, it has Spark's default name.", `
(size(variables.byArgument) > 0 ? variables.byArgument : size(variables.byEnvironment) > 0 ? variables.byEnvironment : lists.range(size(object.spec.containers)))
  .filter(i, object.spec.containers[i].name == '` + name + `')`},
		{"index", "The index of Spark's container. It is -1 if the pod only has Spark's label.", `
[variables.byName, variables.byArgument, variables.byEnvironment].filter(found, size(found) > 0)[?0]
  .optMap(found, size(found) == 1 ? found[0] : -1).orValue(-1)`},
		{"injects", "Whether anything is done.", "variables.index >= 0 && variables.mode != 'disabled'"},
		{"container", "", "object.spec.containers[variables.index]"},
		{"env", "", "variables.container.?env.orValue([])"},
		{"hasCommand", "A container with a command of its own need not read Spark's variables.", "size(variables.container.?command.orValue([])) > 0"},
		{"hostNetwork", "", "object.spec.?hostNetwork.orValue(false)"},
		{"earlier", "The fields that an earlier round of spark-vitals set, as its stamp has them.", `
variables.settings[?'injected'].orValue('').find('"set":\\[[^\\]]*\\]') +
  variables.settings[?'injected'].orValue('').findAll('"[A-Za-z]+":"` + annotations.ChangedByAnother + `"').join()`},
	}
}

// toggle returns whether a switch is on: by the pod's setting, or by its rule.
func toggle(name string, p *policy.Policy, role spark.Role, on func(*policy.Rule) bool) string {
	setting := "variables.settings[?" + text(name) + "].orValue('')"
	rule := "false"
	if with := namesOf(rulesOf(p, role), on); len(with) > 0 {
		rule = "variables.rule in " + texts(with)
	}
	if rule == "false" {
		return setting + " == 'true'"
	}
	return setting + " == 'true' || " + setting + " != 'false' && " + rule
}

func namesOf(rules []*policy.Rule, having func(*policy.Rule) bool) (names []string) {
	for _, rule := range rules {
		if having(rule) {
			names = append(names, rule.Name)
		}
	}
	return names
}

// quantity returns the memory in force for Spark's container in bytes, or 0.
func quantity(of string) string {
	return strings.ReplaceAll(`
[
  object.?status.?containerStatuses.orValue([]).filter(s, s.name == variables.container.name)[?0].?resources.?OF.?memory,
  variables.container.?resources.?OF.?memory,
  object.?status.?resources.?OF.?memory,
  object.spec.?resources.?OF.?memory
].filter(m, m.hasValue() && sign(quantity(m.value())) > 0)[?0]
  .optMap(m, quantity(m.value()).isInteger() ? quantity(m.value()).asInteger() :
    quantity(m.value()).asApproximateFloat() < 9e18 ? int(quantity(m.value()).asApproximateFloat()) + 1 : 9000000000000000000).orValue(0)`, "OF", of)
}

// last returns the literal value of the last variable of the environment with a name.
func last(name string) string {
	return "variables.env.filter(e, e.name == '" + name + "').reverse()[?0].?value.orValue('')"
}

// terminationMessage says what patches.fallbackToLogsOnError does.
func terminationMessage(p *policy.Policy, role spark.Role) variable {
	return variable{"terminationMessagePolicy", "The last lines of a failed container's log are in the pod's status.", `
!(` + toggle("fallbackToLogsOnError", p, role, func(r *policy.Rule) bool { return r.FallbackToLogsOnError }) + `) ? '' :
variables.container.?terminationMessagePath.orValue('') in ['', '/dev/termination-log'] ? 'set' :
'the user set a terminationMessagePath'`}
}

// memory says what patches.memoryAnnotations does, with limit and heap in bytes.
func memory(p *policy.Policy, role spark.Role) variable {
	return variable{"memory", "How the memory is divided between heap and the rest.", `
!(` + toggle("memoryAnnotations", p, role, func(r *policy.Rule) bool { return r.MemoryAnnotations }) + `) ? '' :
variables.limit > 0 || variables.heap > 0 ? 'set' :
'the container has no memory limit'`}
}

// fields are all fields of a stamp, in the order of the patches.
var fields = []string{
	"memory", "blockManagerPort", "processTreeMetrics", "terminationMessagePolicy", "exitOnOutOfMemoryError", "logStall", "startupProbe", "readinessProbe", "livenessProbe",
}

// fieldsOf returns the fields that pods of a role can have.
func fieldsOf(role spark.Role) []string {
	others := map[spark.Role][]string{
		spark.Driver:   {"blockManagerPort", "processTreeMetrics"},
		spark.Executor: {"exitOnOutOfMemoryError", "logStall"},
	}[role]
	return slices.DeleteFunc(slices.Clone(fields), func(f string) bool { return slices.Contains(others, f) })
}

// podStamps are the variables of what is written on the pod about it.
func podStamps(role spark.Role, more []branch) []variable {
	all := fieldsOf(role)
	outcomes := "{" + join(all, func(f string) string { return text(f) + ": variables." + f }) + "}"
	port := ""
	if role == spark.Executor {
		port = " +\n  (variables.mode == 'audit' && variables.movesPort ? ',\"blockManagerPort\":' + string(variables.port) : '')"
	}
	stamps := []branch{
		{annotations.MemoryLimit, "variables.memory == 'set' && variables.limit >= 1048576 ? string(variables.limit / 1048576) + 'Mi' : ''"},
		{annotations.MemoryHeap, "variables.memory == 'set' && variables.heap >= 1048576 ? string(variables.heap / 1048576) + 'Mi' : ''"},
		{annotations.MemoryOverhead, "variables.memory == 'set' && variables.heap > 0 && variables.limit - variables.heap >= 1048576 ? string((variables.limit - variables.heap) / 1048576) + 'Mi' : ''"},
		{annotations.MemorySource, "variables.memory != 'set' || variables.heap == 0 ? '' : " + map[spark.Role]string{spark.Executor: "'pod'", spark.Driver: "variables.estimated ? 'estimated' : 'pod'"}[role]},
	}
	stamps = append(stamps, more...)
	stamps = append(stamps, branch{annotations.Injected, "variables.injected"})
	return append([]variable{
		{"outcomes", "What became of each field: 'set', or why it was left alone, or nothing.", outcomes},
		{"injected", "The stamp: what is set, and what was left alone and why.", `
'{' + (variables.mode == 'audit' ? '"mode":"audit",' : '') + '"rule":"' + variables.rule + '"' +
  [` + texts(all) + `.filter(f, variables.outcomes[f] == 'set')].filter(set, size(set) > 0).map(set, ',"set":["' + set.join('","') + '"]').join() +
  [` + texts(slices.Sorted(slices.Values(all))) + `.filter(f, !(variables.outcomes[f] in ['', 'set']))].filter(left, size(left) > 0)
    .map(left, ',"left":{' + left.map(f, '"' + f + '":"' + variables.outcomes[f].replace('"', '\\"') + '"').join(',') + '}').join()` + port + ` + '}'`},
	}, stampsOf("variables.injects", stamps)...)
}

// stampsOf returns the variables of the stamps that an object gets: those given, by their
// annotations, and none if the object is left alone.
func stampsOf(when string, stamps []branch) []variable {
	return []variable{
		{"ours", "Only spark-vitals writes these. They are removed from a copy of another pod.", texts(slices.Concat(annotations.Record, annotations.Stamps))},
		{"allStamps", "", when + " ? {" + onLines(stamps, func(s branch) string { return text(s.condition) + ": " + s.value }) + "}.transformMap(key, value, value != '', value) : {}"},
		{"stamps", "The stamps, if the user's own annotations leave space for them.", `
variables.allStamps.map(key, size(key) + size(variables.allStamps[key])).sum() +
  variables.annotations.filter(key, !(key in variables.ours)).map(key, size(bytes(key)) + size(bytes(variables.annotations[key]))).sum() <= ` + itoa(annotations.MaxBytes) + `
  ? variables.allStamps : {}`},
	}
}

// annotationPatch writes the stamps, and removes all else that only spark-vitals writes.
const annotationPatch = `variables.ours.filter(key, key in variables.annotations && !(key in variables.stamps))
  .map(key, JSONPatch{op: 'remove', path: '/metadata/annotations/' + jsonpatch.escapeKey(key)}) +
(has(object.metadata.annotations) ?
  variables.stamps.map(key, JSONPatch{op: 'add', path: '/metadata/annotations/' + jsonpatch.escapeKey(key), value: variables.stamps[key]}) :
  [variables.stamps].filter(stamps, size(stamps) > 0).map(stamps, JSONPatch{op: 'add', path: '/metadata/annotations', value: stamps}))`

// forgedPatch removes from a pod what only spark-vitals writes, but for the stamp of an
// earlier round. It is a mutation of its own, because each has its own budget: it holds if
// the pod is above the budget of the other.
var forgedPatch = texts(slices.DeleteFunc(slices.Concat(annotations.Record, annotations.Stamps), func(key string) bool { return key == annotations.Injected })) + `
  .filter(key, key in object.metadata.?annotations.orValue({}))
  .map(key, JSONPatch{op: 'remove', path: '/metadata/annotations/' + jsonpatch.escapeKey(key)})`

// podPatch changes the pod, unless it is only audited.
const podPatch = annotationPatch + ` +
(variables.injects && variables.mode == 'enabled' ?
  variables.changes.map(change, JSONPatch{op: 'add', path: '/spec/containers/' + string(variables.index) + change.path, value: change.value}) :
  [])`

// changes are the changes of Spark's container, each a path and a value.
func changes(of ...string) variable {
	all := append([]string{
		`variables.terminationMessagePolicy == 'set' ? [{'path': dyn('/terminationMessagePolicy'), 'value': dyn('FallbackToLogsOnError')}] : []`,
		`variables.newEnv.size() == 0 ? [] : has(variables.container.env) ?
    variables.newEnv.map(e, {'path': dyn('/env/-'), 'value': dyn(e)}) : [{'path': dyn('/env'), 'value': dyn(variables.newEnv)}]`,
	}, of...)
	all = append(all, `['startupProbe', 'readinessProbe', 'livenessProbe'].filter(f, variables.outcomes[f] == 'set' && !(f in variables.container))
    .map(f, {'path': dyn('/' + f), 'value': dyn(variables.probes[f])})`)
	return variable{"changes", "What changes in Spark's container.", "(" + strings.Join(all, ") +\n(") + ")"}
}

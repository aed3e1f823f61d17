package compile

import (
	"encoding/json"
	"fmt"
	"unicode/utf8"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/spark-vitals/spark-vitals/annotations"
	"github.com/spark-vitals/spark-vitals/policy"
	"github.com/spark-vitals/spark-vitals/spark"
)

// Compiled is a policy as objects of the API server: a policy and its binding for drivers,
// for executors and for drivers' Services.
type Compiled struct {
	Policies []admissionv1.MutatingAdmissionPolicy
	Bindings []admissionv1.MutatingAdmissionPolicyBinding
}

// Differences are what compiled policies do not do as the webhook does.
var Differences = []string{
	"No warnings: a setting that cannot be read, or would do harm, is ignored silently.",
	"No metrics and no log of spark-vitals. The API server counts for itself.",
	"Nothing is ever refused (--validation=deny).",
	"No remedy. A rule with one does not compile.",
	"In mainClass of a rule only * and ?. A rule with [ or \\ does not compile.",
	"The policies always leave kube-system, kube-public and kube-node-lease alone.",
	"If one number that a pod sets for a probe is wrong, all its numbers for that probe are ignored.",
	"logStall.after of a pod only as hours, minutes and seconds, such as 1h30m.",
	"Numbers of more than 18 digits are not read, and memory above 9e18 bytes counts as that.",
	"If the user's annotations leave no space for all stamps, there are none.",
	"The stamp \"injected\" of a copied pod is read only in the form in which spark-vitals writes it.",
	"Of a driver's arguments the first 65,536 characters are read.",
	"Of a pod that is left unchanged because it costs too much, a copied stamp \"injected\" stays.",
	"An executor is left unchanged if other containers declare its port and some 1,000 more of the range.",
	"In the first seconds after its start the API server may refuse pods of Spark (503), because it does not know yet how to patch pods.",
	"A pod with more than some 10,000 annotations, or a driver with more than some 30,000 arguments or 1.5 MB of them, is left unchanged.",
}

// Policy compiles a policy. The error names each field of a rule that CEL cannot say, and
// what to do.
func Policy(p *policy.Policy) (Compiled, error) {
	if errs := refused(p); len(errs) > 0 {
		return Compiled{}, errs.ToAggregate()
	}
	roles := []struct {
		name, resource string
		selector       metav1.LabelSelectorRequirement
		variables      []variable
		patches        []string
	}{
		{"spark-vitals-drivers", "pods", has(spark.RoleLabel, string(spark.Driver)), driverVariables(p), []string{forgedPatch, podPatch}},
		{"spark-vitals-executors", "pods", has(spark.RoleLabel, string(spark.Executor)), executorVariables(p), []string{forgedPatch, podPatch}},
		{"spark-vitals-services", "services", metav1.LabelSelectorRequirement{Key: spark.ApplicationLabel, Operator: metav1.LabelSelectorOpExists}, serviceVariables(p), []string{servicePatch}},
	}
	var c Compiled
	for _, r := range roles {
		c.Policies = append(c.Policies, mutatingPolicy(r.name, r.resource, r.selector, r.variables, r.patches))
		c.Bindings = append(c.Bindings, admissionv1.MutatingAdmissionPolicyBinding{
			TypeMeta:   metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "MutatingAdmissionPolicyBinding"},
			ObjectMeta: metav1.ObjectMeta{Name: r.name, Labels: ownLabels()},
			Spec:       admissionv1.MutatingAdmissionPolicyBindingSpec{PolicyName: r.name},
		})
	}
	return c, tooLarge(c).ToAggregate()
}

// What the API server takes, in characters of an expression (of cel-go) and, with some
// space left, in bytes of an object (of kubectl apply, which keeps a copy of it in an
// annotation).
const (
	maxCharacters = 100_000
	maxBytes      = 200_000
)

// tooLarge says that a policy has too many rules, or too long ones.
func tooLarge(c Compiled) (errs field.ErrorList) {
	const remedy = "; write fewer or shorter rules, or rules with the same probes, or use the webhook"
	for i := range c.Policies {
		for _, v := range c.Policies[i].Spec.Variables {
			if n := utf8.RuneCountInString(v.Expression); n > maxCharacters {
				errs = append(errs, field.Forbidden(field.NewPath("rules"), fmt.Sprintf("the API server reads no expression of more than %d characters, and what they say of %q has %d%s", maxCharacters, v.Name, n, remedy)))
			}
		}
		if data, _ := json.Marshal(c.Policies[i]); len(data) > maxBytes {
			errs = append(errs, field.Forbidden(field.NewPath("rules"), fmt.Sprintf("%s would have %d bytes, more than %d%s", c.Policies[i].Name, len(data), maxBytes, remedy)))
		}
	}
	return errs
}

// refused names the fields of rules that CEL cannot say.
func refused(p *policy.Policy) (errs field.ErrorList) {
	for i, rule := range p.Rules() {
		at := field.NewPath("rules").Index(i)
		if rule.Remedy != nil {
			errs = append(errs, field.Forbidden(at.Child("remedy"), "an admission policy does not know what died; leave it out, or use the webhook"))
		}
		if rule.Match.MainClass != "" && !isSimple(rule.Match.MainClass) {
			errs = append(errs, field.Invalid(at.Child("match", "mainClass"), rule.Match.MainClass, "an admission policy reads only * and ? of a pattern; write one rule for each class, or use the webhook"))
		}
	}
	return errs
}

func ownLabels() map[string]string {
	return map[string]string{"app.kubernetes.io/name": "spark-vitals"}
}

func has(label string, value string) metav1.LabelSelectorRequirement {
	return metav1.LabelSelectorRequirement{Key: label, Operator: metav1.LabelSelectorOpIn, Values: []string{value}}
}

func mutatingPolicy(name, resource string, selector metav1.LabelSelectorRequirement, variables []variable, patches []string) admissionv1.MutatingAdmissionPolicy {
	namespaces := metav1.LabelSelectorRequirement{Key: annotations.Inject, Operator: metav1.LabelSelectorOpIn, Values: []string{string(policy.Enabled), string(policy.Audit)}}
	excluded := metav1.LabelSelectorRequirement{Key: corev1.LabelMetadataName, Operator: metav1.LabelSelectorOpNotIn, Values: []string{"kube-system", "kube-public", "kube-node-lease"}}
	spec := admissionv1.MutatingAdmissionPolicySpec{
		MatchConstraints: &admissionv1.MatchResources{
			NamespaceSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{namespaces, excluded}},
			ObjectSelector:    &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{selector}},
			ResourceRules: []admissionv1.NamedRuleWithOperations{{RuleWithOperations: admissionv1.RuleWithOperations{
				Operations: []admissionv1.OperationType{admissionv1.Create},
				Rule:       admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{resource}, Scope: new(admissionv1.NamespacedScope)},
			}}},
			MatchPolicy: new(admissionv1.Equivalent),
		},
		FailurePolicy:      new(admissionv1.Ignore), // an error leaves the object as it was
		ReinvocationPolicy: admissionv1.IfNeededReinvocationPolicy,
	}
	for _, patch := range patches {
		spec.Mutations = append(spec.Mutations, admissionv1.Mutation{PatchType: admissionv1.PatchTypeJSONPatch, JSONPatch: &admissionv1.JSONPatch{Expression: patch}})
	}
	for _, v := range variables {
		spec.Variables = append(spec.Variables, admissionv1.Variable{Name: v.name, Expression: v.expression()})
	}
	return admissionv1.MutatingAdmissionPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "MutatingAdmissionPolicy"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: ownLabels()},
		Spec:       spec,
	}
}

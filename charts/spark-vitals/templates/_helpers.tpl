{{/* Names. All objects are called after the release and their job. */}}
{{- define "spark-vitals.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* Labels of every object; takes (list root component). */}}
{{- define "spark-vitals.labels" -}}
{{- $root := index . 0 -}}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
{{ include "spark-vitals.selector" . }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "spark-vitals.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ default $root.Chart.Name $root.Values.nameOverride }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
{{- with index . 1 }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end }}

{{/* Metadata of an object; takes (list root component). */}}
{{- define "spark-vitals.metadata" -}}
{{- $root := index . 0 -}}
name: {{ include "spark-vitals.fullname" $root }}-{{ index . 1 }}
namespace: {{ $root.Release.Namespace }}
labels: {{- include "spark-vitals.labels" . | nindent 2 }}
{{- end }}

{{- define "spark-vitals.clusterMetadata" -}}
{{- $root := index . 0 -}}
name: {{ include "spark-vitals.fullname" $root }}-{{ index . 1 }}
labels: {{- include "spark-vitals.labels" . | nindent 2 }}
{{- end }}

{{/* The name of a job's account; takes (list root component). */}}
{{- define "spark-vitals.account" -}}
{{- $root := index . 0 -}}
{{- $given := dig "names" dict ($root.Values.serviceAccount | default dict) | default dict -}}
{{- $names := dict -}}
{{- range list "webhook" "recorder" "releaser" "stallwatch" "certs" "certs-trust" "check" -}}
{{- $_ := set $names . (get $given . | default (printf "%s-%s" (include "spark-vitals.fullname" $root) .)) -}}
{{- end -}}
{{- if ne (len $names) (len (values $names | uniq)) }}{{ fail (printf "serviceAccount.names: the accounts would be %s; choose another for each, because each has its own rights" (values $names | sortAlpha | join ", ")) }}{{ end -}}
{{- get $names (index . 1) -}}
{{- end }}

{{/* Whether accounts or rights are made, "" if not; takes (list root "serviceAccount" or "rbac"). */}}
{{- define "spark-vitals.makes" -}}
{{- if ne (dig "create" true (index (index . 0).Values (index . 1) | default dict)) false }}true{{ end -}}
{{- end }}

{{- define "spark-vitals.image" -}}
{{- $i := .Values.image -}}
{{- with $i.registry | default (dig "imageRegistry" "" (.Values.global | default dict)) }}{{ . }}/{{ end }}{{ $i.repository }}
{{- if $i.digest }}@{{ $i.digest }}{{ else }}:{{ default .Chart.AppVersion $i.tag }}{{ end }}
{{- end }}

{{/* What all pods share, Deployments' and hooks'. */}}
{{- define "spark-vitals.podSpec" -}}
securityContext: {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with concat .Values.imagePullSecrets (dig "imagePullSecrets" list (.Values.global | default dict)) }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName | default (eq .Release.Namespace "kube-system" | ternary "system-cluster-critical" "") }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{/*
The account, Deployment and PodDisruptionBudget of one job. Takes a dict:
root, component, args, token (whether it speaks to the API server), resources,
replicas, budget, and optionally ports, env, spec (more of the pod's spec), volumes
(a list of {name, mountPath, source}), health (a port).
*/}}
{{- define "spark-vitals.deployment" -}}
{{- $root := .root -}}
{{- $labelled := list .root .component -}}
{{- $ports := .ports | default (dict "metrics" 8080 "health" 8081) -}}
{{- if include "spark-vitals.makes" (list $root "serviceAccount") -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "spark-vitals.account" $labelled | quote }}
  namespace: {{ $root.Release.Namespace }}
  labels: {{- include "spark-vitals.labels" $labelled | nindent 4 }}
  {{- with dig "annotations" dict ($root.Values.serviceAccount | default dict) }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
---
{{ end -}}
apiVersion: apps/v1
kind: Deployment
metadata: {{- include "spark-vitals.metadata" $labelled | nindent 2 }}
spec:
  replicas: {{ .replicas }}
  strategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}
  selector:
    matchLabels: {{- include "spark-vitals.selector" $labelled | nindent 6 }}
  template:
    metadata: # without the chart's version, so that only what matters rolls pods
      labels:
        {{- include "spark-vitals.selector" $labelled | nindent 8 }}
        {{- with $root.Values.commonLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with merge (dict "kubectl.kubernetes.io/default-container" .component) $root.Values.podAnnotations }}
      annotations: {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      serviceAccountName: {{ include "spark-vitals.account" $labelled | quote }}
      automountServiceAccountToken: {{ .token }}
      {{- include "spark-vitals.podSpec" $root | nindent 6 }}
      topologySpreadConstraints:
      {{- range $root.Values.topologySpreadConstraints }}
      {{- $own := dict "labelSelector" (dict "matchLabels" (include "spark-vitals.selector" $labelled | fromYaml)) }}
      - {{- toYaml (hasKey . "labelSelector" | ternary . (merge $own .)) | nindent 8 }}
      {{- else }}
      {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
      - maxSkew: 1
        topologyKey: {{ . }}
        whenUnsatisfiable: ScheduleAnyway
        labelSelector:
          matchLabels: {{- include "spark-vitals.selector" $labelled | nindent 12 }}
      {{- end }}
      {{- end }}
      {{- with .spec }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
      containers:
      - name: {{ .component }}
        image: {{ include "spark-vitals.image" $root }}
        imagePullPolicy: {{ $root.Values.image.pullPolicy }}
        args: {{- toYaml .args | nindent 8 }}
        {{- with concat (.env | default list) $root.Values.extraEnv }}
        env: {{- toYaml . | nindent 8 }}
        {{- end }}
        ports:
        {{- range $name, $port := $ports }}
        - {name: {{ $name }}, containerPort: {{ $port }}}
        {{- end }}
        readinessProbe: {httpGet: {path: /readyz, port: health}, periodSeconds: 2}
        livenessProbe: {httpGet: {path: /healthz, port: health}, periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 6}
        terminationMessagePolicy: FallbackToLogsOnError
        resources: {{- toYaml .resources | nindent 10 }}
        securityContext: {{- toYaml $root.Values.securityContext | nindent 10 }}
        {{- if or .volumes $root.Values.extraVolumeMounts }}
        volumeMounts:
        {{- range .volumes }}
        - {name: {{ .name }}, mountPath: {{ .mountPath }}, readOnly: true}
        {{- end }}
        {{- with $root.Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        {{- end }}
      {{- if or .volumes $root.Values.extraVolumes }}
      volumes:
      {{- range .volumes }}
      - name: {{ .name }}
        {{- toYaml .source | nindent 8 }}
      {{- end }}
      {{- with $root.Values.extraVolumes }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
      {{- end }}
{{- if and .budget (gt (int .replicas) 1) }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {{- include "spark-vitals.metadata" $labelled | nindent 2 }}
spec:
  maxUnavailable: 1
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels: {{- include "spark-vitals.selector" $labelled | nindent 6 }}
{{- end }}
{{- end }}

{{/*
Rights of a job's account in one namespace, or in all where none is given. Takes
a dict: root, component, rules, and optionally suffix (of the name), namespace.
*/}}
{{- define "spark-vitals.rights" -}}
{{- if include "spark-vitals.makes" (list .root "rbac") -}}
{{- $kind := .namespace | empty | ternary "ClusterRole" "Role" -}}
{{- $name := printf "%s-%s%s" (include "spark-vitals.fullname" .root) .component (default "" .suffix) -}}
{{- $metadata := dict "name" $name "labels" (include "spark-vitals.labels" (list .root .component) | fromYaml) -}}
{{- with .namespace }}{{ $_ := set $metadata "namespace" . }}{{ end -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $kind }}
metadata: {{- toYaml $metadata | nindent 2 }}
rules: {{- .rules | nindent 0 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $kind }}Binding
metadata: {{- toYaml $metadata | nindent 2 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: {{ $kind }}, name: {{ $metadata.name }}}
subjects:
- {kind: ServiceAccount, name: {{ include "spark-vitals.account" (list .root .component) | quote }}, namespace: {{ .root.Release.Namespace }}}
{{- end }}
{{- end }}

{{/* The lease of the leader, here so that it is deleted with the release; takes (list root component). */}}
{{- define "spark-vitals.lease" -}}
apiVersion: coordination.k8s.io/v1
kind: Lease
metadata:
  name: spark-vitals-{{ index . 1 }}
  namespace: {{ (index . 0).Release.Namespace }}
  labels: {{- include "spark-vitals.labels" . | nindent 4 }}
{{- end }}

{{/* What is needed to lead; takes a component. */}}
{{- define "spark-vitals.leads" -}}
- {apiGroups: [coordination.k8s.io], resources: [leases], resourceNames: [spark-vitals-{{ . }}], verbs: [get, update]}
- {apiGroups: [coordination.k8s.io], resources: [leases], verbs: [create]} # where the chart's own was not applied, as by Argo CD
{{- if ne . "recorder" }}
- {apiGroups: [""], resources: [events], verbs: [create]} # who leads
{{- end }}
{{- end }}

{{/* A rule on records, that the guards ask for. */}}
{{- define "spark-vitals.writeRecords" -}}
- {apiGroups: [spark-vitals.io], resources: [records], verbs: [write]} # the guard of the annotations requires it
- {apiGroups: [""], resources: [pods/status], verbs: [patch]} # write annotations by the status, which cannot change what a pod runs
{{- end }}

{{- define "spark-vitals.policyName" -}}
{{ include "spark-vitals.fullname" . }}-policy-{{ .Values.policy | sha256sum | trunc 10 }}
{{- end }}

{{/* Whether the cluster serves MutatingAdmissionPolicies, "" if not. */}}
{{- define "spark-vitals.servesPolicies" -}}
{{- if .Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy" }}true{{ end -}}
{{- end }}

{{/*
The policy as "spark-vitals policy compile" writes it, "" if nobody compiled it: a
ready-made rule set, chosen by name or by its text, or the value compiledPolicy.
*/}}
{{- define "spark-vitals.compiledPolicy" -}}
{{- $policy := .Values.policy | fromYaml -}}
{{- $set := empty $policy.rules | ternary ($policy.ruleSet | default "default") "" -}}
{{- $sum := printf "SHA-256 %s" (.Values.policy | trim | sha256sum) -}}
{{- $own := .Values.compiledPolicy | default "" -}}
{{- $found := contains $sum $own | ternary $own "" -}}
{{- range $path, $file := .Files.Glob "files/policies/*.yaml" -}}
{{- if and (not $found) (or (eq (base $path) (print $set ".yaml")) (contains $sum (toString $file))) }}{{ $found = toString $file }}{{ end -}}
{{- end -}}
{{- $found | replace "\r\n" "\n" -}}
{{- end }}

{{/* Why the engine cannot be a policy, with what to do, "" if it can. */}}
{{- define "spark-vitals.noPolicy" -}}
{{- $policy := .Values.policy | fromYaml -}}
{{- $unknown := omit $policy "ruleSet" "rules" | keys | sortAlpha -}}
{{- $compiled := include "spark-vitals.compiledPolicy" . -}}
{{- $rules := dig "rules" list $policy -}}
{{- $remedies := list -}}
{{- if kindIs "slice" $rules }}{{ range $i, $rule := $rules }}{{ if kindIs "map" $rule }}{{ if hasKey $rule "remedy" }}{{ $remedies = append $remedies (printf "rules[%d].remedy" $i) }}{{ end }}{{ end }}{{ end }}{{ end -}}
{{- if not (include "spark-vitals.servesPolicies" .) -}}
engine: the cluster does not serve MutatingAdmissionPolicies, as Kubernetes 1.36 and later do; set engine=webhook. If it does, give "helm template" --api-versions=admissionregistration.k8s.io/v1/MutatingAdmissionPolicy
{{- else if $remedies -}}
policy: {{ join ", " $remedies }}: an admission policy does not know what died; leave the remedy out, or set engine=webhook
{{- else if hasKey $policy "Error" -}}
policy: it cannot be read: {{ $policy.Error }}
{{- else if $unknown -}}
policy: {{ join ", " $unknown }}: there is no such field; the fields are ruleSet and rules
{{- else if eq .Values.webhook.validation "deny" -}}
webhook.validation: an admission policy never refuses a driver; set webhook.validation=warn or engine=webhook
{{- else if $compiled -}}
{{- $policies := regexFindAll "(?m)^kind: MutatingAdmissionPolicy$" $compiled -1 | len -}}
{{- if or (not $policies) (ne $policies (regexFindAll "(?m)^kind: MutatingAdmissionPolicyBinding$" $compiled -1 | len)) -}}
compiledPolicy: it must have a binding for each MutatingAdmissionPolicy, as "spark-vitals policy compile" writes them; compile it again
{{- end -}}
{{- else if .Values.compiledPolicy -}}
compiledPolicy: it was not compiled from the value policy as it is now; compile it again, "spark-vitals policy compile my-policy.yaml > compiled.yaml", and set both from the files: --set-file policy=my-policy.yaml --set-file compiledPolicy=compiled.yaml
{{- else -}}
policy: Helm cannot compile a policy of your own; do so by "spark-vitals policy compile my-policy.yaml > compiled.yaml", and set --set-file compiledPolicy=compiled.yaml, or set engine=webhook
{{- end -}}
{{- end }}

{{/* The engine that the values choose, "webhook" or "policy". */}}
{{- define "spark-vitals.engine" -}}
{{- $noPolicy := include "spark-vitals.noPolicy" . -}}
{{- $engine := .Values.engine | default "webhook" -}}
{{- if eq $engine "webhook" }}webhook
{{- else if not $noPolicy }}policy
{{- else if eq $engine "auto" }}webhook
{{- else }}{{ fail $noPolicy }}
{{- end -}}
{{- end }}

{{/*
Whether an engine injects, "" if not; takes (list root engine). The chosen one does, and
with it the other one that was there before, until an upgrade finds that the chosen one
is there: an API server knows a policy only after a second, and a new webhook needs pods and
a certificate. Both at once inject a pod once. Without a cluster, as in "helm template",
there was none before.
*/}}
{{- define "spark-vitals.injectsBy" -}}
{{- $root := index . 0 -}}
{{- $engine := index . 1 -}}
{{- $chosen := include "spark-vitals.engine" $root -}}
{{- if eq $engine $chosen }}true
{{- else if and $root.Release.IsUpgrade (include "spark-vitals.servesPolicies" $root) -}}
{{- $name := include "spark-vitals.fullname" $root -}}
{{- $policy := lookup "admissionregistration.k8s.io/v1" "MutatingAdmissionPolicyBinding" "" (print $name "-inject-drivers") -}}
{{- $webhook := lookup "admissionregistration.k8s.io/v1" "MutatingWebhookConfiguration" "" $name -}}
{{- if and (eq $chosen "policy") $webhook (not $policy) }}true
{{- else if and (eq $chosen "webhook") $policy -}}
{{- $deployment := lookup "apps/v1" "Deployment" $root.Release.Namespace (print $name "-webhook") -}}
{{- $trusted := "" -}}
{{- range dig "webhooks" list $webhook }}{{ $trusted = dig "clientConfig" "caBundle" "" . }}{{ end -}}
{{- if not (and $trusted (dig "status" "availableReplicas" 0 $deployment)) }}true{{ end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Whether a rule has a remedy, "" if none does: then the webhook watches drivers. */}}
{{- define "spark-vitals.hasRemedy" -}}
{{- $policy := .Values.policy | fromYaml -}}
{{- $found := false -}}
{{- range $policy.rules }}{{ if kindIs "map" . }}{{ if hasKey . "remedy" }}{{ $found = true }}{{ end }}{{ end }}{{ end -}}
{{- if $found -}}
{{- if not .Values.guards.enabled }}{{ fail "policy: a rule has a remedy, and guards.enabled is false; set guards.enabled=true, or any user who may change pods decides what executors get" }}{{ end -}}
{{- if not .Values.recorder.enabled }}{{ fail "policy: a rule has a remedy, and recorder.enabled is false; the recorder decides what executors get, so set recorder.enabled=true" }}{{ end -}}
true
{{- end -}}
{{- end }}

{{/* Whether a rule has nextRun, "" if none does: then the webhook watches SparkJobs. */}}
{{- define "spark-vitals.hasNextRun" -}}
{{- $policy := .Values.policy | fromYaml -}}
{{- $found := false -}}
{{- range $policy.rules }}{{ if kindIs "map" . }}{{ if kindIs "map" .remedy }}{{ if has .remedy.nextRun (list "audit" "enabled") }}{{ $found = true }}
{{- if and (eq (dig "match" "role" "" .) "executor") (not $.Values.recorder.readConfigMaps) }}{{ fail "policy: a rule for executors has remedy.nextRun, and recorder.readConfigMaps is false; the recorder must know how many cores a task needs before the first executor is created, so set recorder.readConfigMaps=true" }}{{ end }}{{ end }}{{ end }}{{ end }}{{ end -}}
{{- if $found -}}
{{- if not .Values.sparkJobs.enabled }}{{ fail "policy: a rule has remedy.nextRun, and sparkJobs.enabled is false; what earlier runs needed is kept in SparkJobs, so set sparkJobs.enabled=true" }}{{ end -}}
true
{{- end -}}
{{- end }}

{{- define "spark-vitals.certSecret" -}}
{{- if eq .Values.certificates.mode "existing" -}}
{{ required "certificates.existing.secretName: name the Secret with tls.crt and tls.key" .Values.certificates.existing.secretName }}
{{- else -}}
{{ include "spark-vitals.fullname" . }}-certs
{{- end }}
{{- end }}

{{/*
Hooks: objects that live as long as an installation, an upgrade or a test takes.
Each takes a dict: root, component, hooks (when), and optionally weight, annotations.
*/}}
{{- define "spark-vitals.hookAnnotations" -}}
helm.sh/hook: {{ .hooks }}
helm.sh/hook-weight: {{ .weight | default 0 | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- with .output }}
helm.sh/hook-output-log-policy: {{ . }}
{{- end }}
{{- with .annotations }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "spark-vitals.hookMetadata" -}}
{{- include "spark-vitals.metadata" (list .root .component) }}
annotations: {{- include "spark-vitals.hookAnnotations" . | nindent 2 }}
{{- end }}

{{/* A hook's account, and its rights in the release's namespace and in the cluster; takes also rules, clusterRules. */}}
{{- define "spark-vitals.hookAccount" -}}
{{- $name := printf "%s-%s" (include "spark-vitals.fullname" .root) .component -}}
{{- $hook := . -}}
apiVersion: v1
kind: ServiceAccount
metadata: {{- include "spark-vitals.hookMetadata" . | nindent 2 }}
automountServiceAccountToken: false
{{- range $kind, $rules := dict "Role" .rules "ClusterRole" .clusterRules }}
{{- if $rules }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $kind }}
metadata: {{- include "spark-vitals.hookMetadata" $hook | nindent 2 }}
rules: {{- $rules | nindent 0 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $kind }}Binding
metadata: {{- include "spark-vitals.hookMetadata" $hook | nindent 2 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: {{ $kind }}, name: {{ $name }}}
subjects:
- {kind: ServiceAccount, name: {{ $name }}, namespace: {{ $hook.root.Release.Namespace }}}
{{- end }}
{{- end }}
{{- end }}

{{/* The pod of a hook; takes also args, account, env, volumes. */}}
{{- define "spark-vitals.hookPod" -}}
restartPolicy: Never
{{- with .account }}
serviceAccountName: {{ . | quote }}
{{- end }}
automountServiceAccountToken: {{ not (empty .account) }}
{{ include "spark-vitals.podSpec" .root }}
containers:
- name: {{ .component }}
  image: {{ include "spark-vitals.image" .root }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  args: {{- toYaml .args | nindent 4 }}
  terminationMessagePolicy: FallbackToLogsOnError
  resources: {{- toYaml .root.Values.hooks.resources | nindent 4 }}
  securityContext: {{- toYaml .root.Values.securityContext | nindent 4 }}
  {{- with concat (.env | default list) .root.Values.extraEnv }}
  env: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .volumes }}
  volumeMounts:
  {{- range . }}
  - {name: {{ .name }}, mountPath: {{ .mountPath }}, readOnly: true}
  {{- end }}
volumes:
{{- range . }}
- name: {{ .name }}
  {{- toYaml .source | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{- define "spark-vitals.hookJob" -}}
apiVersion: batch/v1
kind: Job
metadata: {{- include "spark-vitals.hookMetadata" (merge (dict "weight" 10 "output" "hook-failed") .) | nindent 2 }}
spec:
  backoffLimit: {{ .retries | default 0 }}
  activeDeadlineSeconds: 240
  template:
    metadata:
      labels: {{- include "spark-vitals.labels" (list .root .component) | nindent 8 }}
      {{- with .root.Values.podAnnotations }}
      annotations: {{- toYaml . | nindent 8 }}
      {{- end }}
    spec: {{- include "spark-vitals.hookPod" . | nindent 6 }}
{{- end }}

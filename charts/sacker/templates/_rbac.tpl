{{/* What these controllers may do beyond namespaces: dict root, controllers. With its kin below and the lease, config/rbac/operator.yaml. */}}
{{- define "sacker.clusterRules" -}}
- apiGroups: [sacker.dev]
  resources: [sackerledgers]
  verbs: [get, list, watch]
{{- if has "ledger" .controllers }}
- apiGroups: [sacker.dev]
  resources: [sackerledgers/status]
  verbs: [patch]
{{- end }}
# Labels decide on access; only metadata is read.
- apiGroups: [""]
  resources: [namespaces]
  {{- with .root.Values.watchNamespace }}
  # The other one names the cluster by its uid.
  resourceNames: [kube-system, {{ . }}]
  {{- end }}
  verbs: [get, list, watch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end }}

{{/* What they may do in the namespaces that they look after: dict root, controllers. */}}
{{- define "sacker.objectRules" -}}
- apiGroups: [sacker.dev]
  resources: [sackerpackages, sackertags]
  verbs: [get, list, watch]
{{- if has "resolver" .controllers }}
- apiGroups: [sacker.dev]
  resources: [sackerpackages/status]
  verbs: [patch]
# What SackerPackages publish.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch, create, update, delete]
{{- end }}
{{- if has "tag" .controllers }}
- apiGroups: [sacker.dev]
  resources: [sackertags/status]
  verbs: [patch]
# The finalizer.
- apiGroups: [sacker.dev]
  resources: [sackertags]
  verbs: [patch]
{{- end }}
{{- if has "rollout" .controllers }}
# The annotations resolved.sacker.dev/* of pod templates.
- apiGroups: [apps]
  resources: [daemonsets, deployments, statefulsets]
  verbs: [get, list, watch, patch]
{{- end }}
{{- end }}

{{/* A ClusterRole or Role, and who has it: dict of (the dict of sacker.rights), name, namespace ("" for the cluster), rules. */}}
{{- define "sacker.grant" -}}
{{- $kind := ternary "Role" "ClusterRole" (ne .namespace "") -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $kind }}
metadata:
  name: {{ .name }}
  {{- with .namespace }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "sacker.labels" .of | nindent 4 }}
rules:
{{ .rules }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $kind }}Binding
metadata:
  name: {{ .name }}
  {{- with .namespace }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "sacker.labels" .of | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ $kind }}
  name: {{ .name }}
subjects:
- kind: ServiceAccount
  name: {{ .of.account }}
  namespace: {{ .of.root.Release.Namespace }}
{{- end }}

{{/* All rights of a component: dict root, component, account, controllers. */}}
{{- define "sacker.rights" -}}
{{- $name := printf "sacker-%s" .component -}}
{{- $watched := .root.Values.watchNamespace -}}
{{- $wide := include "sacker.clusterRules" . -}}
{{- $objects := include "sacker.objectRules" . -}}
{{- if $watched -}}
{{ include "sacker.grant" (dict "of" . "name" $name "namespace" "" "rules" $wide) }}
---
{{ include "sacker.grant" (dict "of" . "name" (printf "%s-objects" $name) "namespace" $watched "rules" $objects) }}
{{- else -}}
{{ include "sacker.grant" (dict "of" . "name" $name "namespace" "" "rules" (printf "%s\n%s" $wide $objects)) }}
{{- end }}
{{- if .root.Values.leaderElection.enabled }}
---
{{ include "sacker.grant" (dict "of" . "name" $name "namespace" .root.Release.Namespace "rules" (include "sacker.leaseRules" $name)) }}
{{- end }}
{{- end }}

{{/* The lease of this name. */}}
{{- define "sacker.leaseRules" -}}
# A creation cannot be bound to a name.
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [{{ . }}]
  verbs: [get, update]
{{- end }}

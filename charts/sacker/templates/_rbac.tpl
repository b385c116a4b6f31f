{{/* What these controllers may do in the cluster; all but the lease. The operator's is config/rbac/operator.yaml: dict root, component, controllers. */}}
{{- define "sacker.clusterRole" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: sacker-{{ .component }}
  labels:
    {{- include "sacker.labels" . | nindent 4 }}
rules:
- apiGroups: [sacker.dev]
  resources: [sackerledgers, sackerpackages, sackertags]
  verbs: [get, list, watch]
# Labels decide on access; only metadata is read.
- apiGroups: [""]
  resources: [namespaces]
  verbs: [get, list, watch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- if has "ledger" .controllers }}
- apiGroups: [sacker.dev]
  resources: [sackerledgers/status]
  verbs: [patch]
{{- end }}
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

{{/* The lease, and who has these rights: dict root, component, account. */}}
{{- define "sacker.bindings" -}}
{{- $name := printf "sacker-%s" .component -}}
{{- $namespace := .root.Release.Namespace -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ $name }}
  labels:
    {{- include "sacker.labels" . | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: {{ $name }}
subjects:
- kind: ServiceAccount
  name: {{ .account }}
  namespace: {{ $namespace }}
{{- if .root.Values.leaderElection.enabled }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ $name }}
  namespace: {{ $namespace }}
  labels:
    {{- include "sacker.labels" . | nindent 4 }}
rules:
# A creation cannot be bound to a name.
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [{{ $name }}]
  verbs: [get, update]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ $name }}
  namespace: {{ $namespace }}
  labels:
    {{- include "sacker.labels" . | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ $name }}
subjects:
- kind: ServiceAccount
  name: {{ .account }}
  namespace: {{ $namespace }}
{{- end }}
{{- end }}

{{/* Labels that choose the pods of a component: dict root, component. */}}
{{- define "sacker.selector" -}}
app.kubernetes.io/name: sacker
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* Labels of an object: dict root, component. */}}
{{- define "sacker.labels" -}}
{{ include "sacker.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: sacker
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* The image with all programs. */}}
{{- define "sacker.image" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion -}}
{{- if .Values.image.digest -}}
{{ printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else -}}
{{ printf "%s:%s" .Values.image.repository $tag }}
{{- end -}}
{{- end }}

{{- define "sacker.serviceAccount" -}}
{{ .Values.serviceAccount.name | default "sacker-operator" }}
{{- end }}

{{- define "sacker.rolloutServiceAccount" -}}
{{ .Values.rollout.serviceAccount.name | default "sacker-rollout" }}
{{- end }}

{{/* What the level "restricted" asks of a pod, and of a container. */}}
{{- define "sacker.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "sacker.containerSecurity" -}}
readOnlyRootFilesystem: true
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
{{- end }}

{{/* A Deployment of the operator: dict root, component, controllers, serviceAccount, settings (of .Values or .Values.rollout). */}}
{{- define "sacker.deployment" -}}
{{- $values := .root.Values -}}
{{- $name := printf "sacker-%s" .component -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "sacker.labels" . | nindent 4 }}
spec:
  replicas: {{ .settings.replicas }}
  {{- if not $values.leaderElection.enabled }}
  # Without a lease, never two at a time for long.
  strategy:
    type: Recreate
  {{- end }}
  selector:
    matchLabels:
      {{- include "sacker.selector" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "sacker.labels" . | nindent 8 }}
        {{- with $values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      annotations:
        kubectl.kubernetes.io/default-container: operator
        {{- with $values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: {{ .serviceAccount }}
      # Their names begin like those of the settings.
      enableServiceLinks: false
      {{- with $values.imagePullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      # It finishes what is under way for 20 s after the signal.
      terminationGracePeriodSeconds: 30
      securityContext:
        {{- include "sacker.podSecurity" . | nindent 8 }}
      {{- with $values.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      {{- with $values.hostAliases }}
      hostAliases:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.affinity }}
      affinity:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.topologySpreadConstraints }}
      topologySpreadConstraints:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      containers:
      - name: operator
        image: {{ include "sacker.image" .root | quote }}
        imagePullPolicy: {{ $values.image.pullPolicy }}
        command: [/sacker-operator]
        args:
        - run
        - --controllers={{ join "," .controllers }}
        - --http-address=0.0.0.0:8080
        - --log-format={{ $values.log.format }}
        - --ledger-deadline={{ $values.ledgerDeadline }}
        - --watch-timeout={{ $values.watchTimeout }}
        {{- with $values.pollInterval }}
        - --poll-interval={{ . }}
        {{- end }}
        {{- with $values.watchNamespace }}
        - --watch-namespace={{ . }}
        {{- end }}
        {{- with $values.clusterName }}
        - --cluster-name={{ . }}
        {{- end }}
        {{- if and $values.policies.actor (has "tag" .controllers) }}
        - --trust-requested-by
        {{- end }}
        {{- if $values.leaderElection.enabled }}
        - --lease-namespace={{ .root.Release.Namespace }}
        - --lease-name={{ $name }}
        - --lease-duration={{ $values.leaderElection.leaseDuration }}
        {{- else }}
        - --leader-elect=false
        {{- end }}
        env:
        - name: SACKER_LOG
          value: {{ $values.log.filter | quote }}
        {{- with $values.env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        {{- with $values.envFrom }}
        envFrom:
        {{- toYaml . | nindent 8 }}
        {{- end }}
        ports:
        - name: http
          containerPort: 8080
        # So that `kubectl describe` says why it ended.
        terminationMessagePolicy: FallbackToLogsOnError
        livenessProbe:
          httpGet: {path: /healthz, port: http}
          periodSeconds: 10
          timeoutSeconds: 5
        readinessProbe:
          httpGet: {path: /readyz, port: http}
          periodSeconds: 5
          timeoutSeconds: 5
        resources:
          {{- toYaml .settings.resources | nindent 10 }}
        securityContext:
          {{- include "sacker.containerSecurity" . | nindent 10 }}
        {{- with $values.volumeMounts }}
        volumeMounts:
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with $values.volumes }}
      volumes:
      {{- toYaml . | nindent 6 }}
      {{- end }}
{{- end }}

{{/* A Deployment that follows a stream, as `values` say: a fleet of `replicas`, whose pods hand their
     work over to each other; without them one pod, replaced only after it ended. */}}
{{- define "psm.follower" -}}
{{- $_ := merge . (include "psm.part" . | fromYaml) -}}
{{- $replicas := int .values.replicas -}}
{{- $most := $replicas -}}
{{- $autoscaling := (.values.autoscaling).enabled -}}
{{- if $autoscaling }}{{ $most = int .values.autoscaling.maxReplicas }}{{ end -}}
{{- $name := printf "%s-%s" (include "psm.fullname" .root) .component -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  labels:
    {{- include "psm.labels" . | nindent 4 }}
spec:
  {{- if $replicas }}
  {{- /* Whoever scales this owns the number: rendering it, too, would make the next upgrade fail. */}}
  {{- if not $autoscaling }}
  replicas: {{ $replicas }}
  {{- end }}
  strategy:
    type: RollingUpdate
    rollingUpdate: {maxSurge: 1, maxUnavailable: 0}
  {{- else }}
  replicas: 1
  strategy: {type: Recreate}
  {{- end }}
  selector:
    matchLabels:
      {{- include "psm.selector" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "psm.labels" . | nindent 8 }}
        {{- with .root.Values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with .root.Values.podAnnotations }}
      annotations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      serviceAccountName: {{ $name }}
      # A clean stop commits, and saves what changed; a worker hands over first. SIGTERM begins it
      # at once: nothing is routed to these pods, so there is nothing to wait for before.
      terminationGracePeriodSeconds: 60
      {{- if $replicas }}
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels:
              {{- include "psm.selector" . | nindent 14 }}
      {{- end }}
      {{- include "psm.pod" . | nindent 6 }}
      containers:
        - name: {{ .component }}
          args: [{{ .args | default (list .component) | join ", " }}]
          {{- include "psm.container" . | nindent 10 }}
            {{- include "psm.metricsEnv" . | nindent 12 }}
          ports:
            - {name: metrics, containerPort: 9090}
          {{- include "psm.probes" (dict "port" "metrics" "ready" "/health/ready") | nindent 10 }}
          resources:
            {{- toYaml .values.resources | nindent 12 }}
{{- if gt $most 1 }}
---
{{ include "psm.disruption" . }}
{{- end }}
{{- end -}}

{{/* A Job that prepares the ground before each install and upgrade. */}}
{{- define "psm.job" -}}
{{- $_ := merge . (include "psm.part" . | fromYaml) -}}
{{- $name := printf "%s-%s" (include "psm.fullname" .root) .component -}}
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ $name }}
  labels:
    {{- include "psm.labels" . | nindent 4 }}
  annotations:
    helm.sh/hook: pre-install,pre-upgrade
    helm.sh/hook-weight: "0"
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
spec:
  backoffLimit: 5
  activeDeadlineSeconds: {{ .root.Values.jobs.deadlineSeconds }}
  template:
    metadata:
      labels:
        {{- include "psm.labels" . | nindent 8 }}
        {{- with .root.Values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with .root.Values.podAnnotations }}
      annotations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      # A hook runs before the chart's own service account exists, and needs none.
      restartPolicy: OnFailure
      {{- include "psm.pod" . | nindent 6 }}
      containers:
        - name: {{ .component }}
          args: {{ toJson .args }}
          {{- include "psm.container" . | nindent 10 }}
          resources:
            {{- toYaml .root.Values.jobs.resources | nindent 12 }}
{{- end -}}

{{/* Names */}}
{{- define "psm.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "psm.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "psm.labels" -}}
{{ include "psm.selector" . }}
app.kubernetes.io/part-of: psm
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{- define "psm.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ printf "%s@%s" .repository .digest }}
{{- else -}}
{{ printf "%s:%s" .repository (default $.Chart.AppVersion .tag) }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A part is given as `nats` and `postgres`: its user at each, or nothing where it uses neither.
     The name of a key in the secret of all users. */}}
{{- define "psm.natsKey" -}}
{{- if .root.Values.nats.auth.userPerPart }}{{ printf "%s.%s" .nats .key }}{{ else }}{{ .key }}{{ end -}}
{{- end -}}

{{- define "psm.postgresKey" -}}
{{- with .root.Values.postgres -}}
{{- if .loginPerPart }}{{ printf "%s.%s" $.postgres .key }}{{ else }}{{ .key }}{{ end -}}
{{- end -}}
{{- end -}}

{{/* The one key by which a part says who it is, as its kind and its name in the secret. */}}
{{- define "psm.natsIdentity" -}}
{{- $root := .root }}{{ $nats := .nats -}}
{{- range $kind := list "credsKey" "nkeySeedKey" "tokenKey" "passwordKey" -}}
{{- with get $root.Values.nats.auth $kind }}
- {kind: {{ $kind }}, key: {{ include "psm.natsKey" (dict "root" $root "nats" $nats "key" .) | quote }}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What every pod has. Service links are off: Kubernetes would add PSM_..._PORT variables,
     and an unknown PSM_* is an error. */}}
{{- define "psm.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumes:
  - name: tmp
    emptyDir: {sizeLimit: 64Mi}
  {{- if .nats }}
  {{- if .root.Values.nats.auth.existingSecret }}
  - name: nats-auth
    secret:
      secretName: {{ .root.Values.nats.auth.existingSecret }}
      defaultMode: 0440
      items:  # of this user only
        {{- range include "psm.natsIdentity" . | fromYamlArray }}
        - {key: {{ .key | quote }}, path: {{ .key | quote }}}
        {{- end }}
  {{- end }}
  {{- with .root.Values.nats.tls.existingSecret }}
  - name: nats-tls
    secret: {secretName: {{ . }}, defaultMode: 0440}
  {{- end }}
  {{- end }}
  {{- if .postgres }}
  - name: postgres
    secret:
      secretName: {{ required "postgres.existingSecret is required: a secret with the PostgreSQL DSN" .root.Values.postgres.existingSecret }}
      defaultMode: 0440
      items:
        {{- $key := include "psm.postgresKey" . }}
        - {key: {{ $key | quote }}, path: {{ $key | quote }}}
        {{- range .logins }}
        {{- $key := include "psm.postgresKey" (dict "root" $.root "postgres" .) }}
        - {key: {{ $key | quote }}, path: {{ $key | quote }}}
        {{- end }}
  {{- end }}
{{- end -}}

{{/* What every container has */}}
{{- define "psm.container" -}}
image: {{ include "psm.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  {{- if .nats }}
  {{- if .root.Values.nats.auth.existingSecret }}
  - {name: nats-auth, mountPath: /etc/psm/nats-auth, readOnly: true}
  {{- end }}
  {{- if .root.Values.nats.tls.existingSecret }}
  - {name: nats-tls, mountPath: /etc/psm/nats-tls, readOnly: true}
  {{- end }}
  {{- end }}
  {{- if .postgres }}
  - {name: postgres, mountPath: /etc/psm/postgres, readOnly: true}
  {{- end }}
env:
  {{- range $name, $value := .root.Values.settings }}
  {{- /* A large number would otherwise be written as 1e+06. */}}
  {{- if kindIs "float64" $value }}{{ $value = int64 $value }}{{ end }}
  - {name: {{ $name }}, value: {{ $value | toString | quote }}}
  {{- end }}
  {{- if hasKey .root.Values.settings "PSM_ANALYTICS" }}
  {{- fail "settings.PSM_ANALYTICS: say analytics.enabled instead" }}
  {{- end }}
  - {name: PSM_ANALYTICS, value: {{ .root.Values.analytics.enabled | toString | quote }}}
  {{- if .nats }}
  - {name: NATS_URL, value: {{ .root.Values.nats.url | quote }}}
  {{- $auth := .root.Values.nats.auth }}
  {{- if $auth.existingSecret }}
  {{- if and $auth.userPerPart $auth.user }}
  {{- fail "nats.auth.user names one user for all parts: set nats.auth.userPerPart=false, or leave it out" }}
  {{- end }}
  {{- if and $auth.userPerPart $auth.tokenKey }}
  {{- fail "nats.auth.tokenKey: a token is no user; set nats.auth.userPerPart=false" }}
  {{- end }}
  {{- $identity := include "psm.natsIdentity" . | fromYamlArray }}
  {{- if not $identity }}
  {{- fail "nats.auth.existingSecret needs credsKey, nkeySeedKey, tokenKey or passwordKey beside it" }}
  {{- end }}
  {{- range $identity }}
  {{- $file := printf "/etc/psm/nats-auth/%s" .key | quote }}
  {{- if eq .kind "credsKey" }}
  - {name: PSM_NATS_CREDS_FILE, value: {{ $file }}}
  {{- else if eq .kind "nkeySeedKey" }}
  - {name: PSM_NATS_NKEY_SEED_FILE, value: {{ $file }}}
  {{- else if eq .kind "tokenKey" }}
  - {name: PSM_NATS_TOKEN_FILE, value: {{ $file }}}
  {{- else if $auth.userPerPart }}
  - {name: PSM_NATS_USER, value: {{ $.nats | quote }}}
  - {name: PSM_NATS_PASSWORD_FILE, value: {{ $file }}}
  {{- else }}
  - {name: PSM_NATS_USER, value: {{ required "nats.auth.passwordKey needs nats.auth.user" $auth.user | quote }}}
  - {name: PSM_NATS_PASSWORD_FILE, value: {{ $file }}}
  {{- end }}
  {{- end }}
  {{- if $auth.userPerPart }}
  - {name: PSM_NATS_INBOX_PREFIX, value: {{ printf "_INBOX.%s" .nats | quote }}}
  {{- end }}
  {{- end }}
  {{- with .root.Values.nats.tls }}
  {{- if .existingSecret }}
  - {name: PSM_NATS_CA_FILE, value: {{ printf "/etc/psm/nats-tls/%s" .caKey | quote }}}
  {{- if .certKey }}
  - {name: PSM_NATS_CERT_FILE, value: {{ printf "/etc/psm/nats-tls/%s" .certKey | quote }}}
  - {name: PSM_NATS_KEY_FILE, value: {{ printf "/etc/psm/nats-tls/%s" (required "nats.tls.certKey needs nats.tls.keyKey" .keyKey) | quote }}}
  {{- end }}
  {{- end }}
  {{- end }}
  {{- end }}
  {{- if .postgres }}
  - {name: POSTGRES_DSN_FILE, value: {{ include "psm.postgresKey" . | printf "/etc/psm/postgres/%s" | quote }}}
  {{- range .logins }}
  - name: POSTGRES_{{ upper . }}_DSN_FILE
    value: {{ include "psm.postgresKey" (dict "root" $.root "postgres" .) | printf "/etc/psm/postgres/%s" | quote }}
  {{- end }}
  {{- end }}
{{- end -}}

{{/* Health and metrics of processes that serve nothing else */}}
{{- define "psm.metricsEnv" -}}
- {name: PSM_METRICS_HOST, value: "0.0.0.0"}
- {name: PSM_METRICS_PORT, value: "9090"}
{{- end -}}

{{/* `port` and `ready`, the path of the door that the pod is there for. Liveness fails by the
     process's own fault alone, never because something else is away. */}}
{{- define "psm.probes" -}}
startupProbe:
  httpGet: {path: /health/live, port: {{ .port }}}
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /health/live, port: {{ .port }}}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
readinessProbe:
  httpGet: {path: {{ .ready }}, port: {{ .port }}}
  periodSeconds: 5
  timeoutSeconds: 4
{{- end -}}

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

{{/* The parts that are there, each with its user at NATS and its login at PostgreSQL, or nothing where
     it uses neither. `job` is a hook, `http` the API, `asks` the test. */}}
{{- define "psm.parts" -}}
api: {nats: {{ ternary "ingest" "api" .Values.api.ingest }}, postgres: api, http: true}
worker: {nats: worker, postgres: worker}
projector: {nats: projector, postgres: projector}
archive: {nats: archiver, postgres: archiver}
test: {asks: true}
{{- if .Values.analytics.enabled }}
analytics: {nats: projector, postgres: projector}
{{- end }}
{{- if .Values.marks.enabled }}
marks: {nats: marks}
{{- end }}
{{- if .Values.risk.enabled }}
risk: {nats: risk}
{{- end }}
{{- if .Values.jobs.enabled }}
streams: {nats: streams, job: true}
migrate: {postgres: owner, job: true}
{{- end }}
{{- with .Values.scheduled }}
{{- if .audit.enabled }}
audit: {nats: operator, postgres: operator, scheduled: true}
{{- end }}
{{- if .replicaAudit.enabled }}
replica-audit: {nats: operator, scheduled: true}
{{- end }}
{{- if .anchors.enabled }}
anchors: {nats: auditor, scheduled: true}
{{- end }}
{{- end }}
{{- end -}}

{{/* A part as the other templates take it: `root`, `component`, `nats`, `postgres`. */}}
{{- define "psm.part" -}}
{{- $part := get (include "psm.parts" .root | fromYaml) .component -}}
{{- toYaml (dict "component" .component "nats" ($part.nats | default "") "postgres" ($part.postgres | default "")) -}}
{{- end -}}

{{/* Where a user's key is: the file of it in the pod, the key in its secret, and that secret. */}}
{{- define "psm.userFile" -}}
{{- if .perPart }}{{ printf "%s.%s" .user .key }}{{ else }}{{ .key }}{{ end -}}
{{- end -}}

{{- define "psm.userSource" -}}
{{- $file := include "psm.userFile" . -}}
{{- if and .perPart .secretPerPart -}}
- secret: {name: {{ printf "%s-%s" .secret .user | quote }}, items: [{key: {{ .key | quote }}, path: {{ $file | quote }}}]}
{{- else -}}
- secret: {name: {{ .secret | quote }}, items: [{key: {{ $file | quote }}, path: {{ $file | quote }}}]}
{{- end -}}
{{- end -}}

{{- define "psm.natsKey" -}}
{{- include "psm.userFile" (dict "perPart" .root.Values.nats.auth.userPerPart "user" .nats "key" .key) -}}
{{- end -}}

{{- define "psm.postgresKey" -}}
{{- include "psm.userFile" (dict "perPart" .root.Values.postgres.loginPerPart "user" .postgres "key" .root.Values.postgres.key) -}}
{{- end -}}

{{/* The one key by which a part says who it is, as its kind and its name in the secret. */}}
{{- define "psm.natsIdentity" -}}
{{- $root := .root }}{{ $nats := .nats -}}
{{- range $kind := list "credsKey" "nkeySeedKey" "tokenKey" "passwordKey" -}}
{{- with get $root.Values.nats.auth $kind }}
- {kind: {{ $kind }}, name: {{ . | quote }}, key: {{ include "psm.natsKey" (dict "root" $root "nats" $nats "key" .) | quote }}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What every pod has; `secrets` of a part alone by name, each is mounted as /etc/psm/<name>. Service links are off: Kubernetes would add PSM_..._PORT variables,
     and an unknown PSM_* is an error. */}}
{{- define "psm.pod" -}}
automountServiceAccountToken: false
{{- with .root.Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
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
{{- with (.values).affinity | default .root.Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumes:
  - name: tmp
    emptyDir: {sizeLimit: 64Mi}
  {{- if .nats }}
  {{- if .root.Values.nats.auth.existingSecret }}
  - name: nats-auth
    projected:
      defaultMode: 0440
      sources:  # of this user only
        {{- $auth := .root.Values.nats.auth }}
        {{- range include "psm.natsIdentity" . | fromYamlArray }}
        {{- include "psm.userSource" (dict "perPart" $auth.userPerPart "secretPerPart" $auth.secretPerPart "secret" $auth.existingSecret "user" $.nats "key" .name) | nindent 8 }}
        {{- end }}
  {{- end }}
  {{- with .root.Values.nats.tls.existingSecret }}
  - name: nats-tls
    secret: {secretName: {{ . | quote }}, defaultMode: 0440}
  {{- end }}
  {{- end }}
  {{- range $name, $secret := .secrets }}
  - name: {{ $name }}
    secret: {secretName: {{ $secret | quote }}, defaultMode: 0440}
  {{- end }}
  {{- with .mode }}
  - name: mode
    configMap: {name: {{ . | quote }}, optional: true}
  {{- end }}
  {{- with and .postgres .root.Values.postgres.tls.existingSecret }}
  - name: postgres-tls
    secret: {secretName: {{ . | quote }}, defaultMode: 0440}
  {{- end }}
  {{- with .root.Values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- if .postgres }}
  - name: postgres
    projected:
      defaultMode: 0440
      sources:
        {{- $of := .root.Values.postgres }}
        {{- $secret := required "postgres.existingSecret is required: a secret with the PostgreSQL DSN" $of.existingSecret }}
        {{- range prepend (.logins | default list) .postgres }}
        {{- include "psm.userSource" (dict "perPart" $of.loginPerPart "secretPerPart" $of.secretPerPart "secret" $secret "user" . "key" $of.key) | nindent 8 }}
        {{- end }}
  {{- end }}
  {{- with .anchors }}
  - name: anchors
    persistentVolumeClaim: {claimName: {{ required "scheduled.anchors.existingClaim is required" .existingClaim | quote }}}
  - name: anchor-key
    secret: {secretName: {{ required "scheduled.anchors.existingSecret is required" .existingSecret | quote }}, defaultMode: 0440}
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
  {{- if .root.Values.postgres.tls.existingSecret }}
  - {name: postgres-tls, mountPath: /etc/psm/postgres-tls, readOnly: true}
  {{- end }}
  {{- end }}
  {{- range $name, $secret := .secrets }}
  - {name: {{ $name }}, mountPath: /etc/psm/{{ $name }}, readOnly: true}
  {{- end }}
  {{- if .mode }}
  - {name: mode, mountPath: /etc/psm/mode, readOnly: true}
  {{- end }}
  {{- if .anchors }}
  - {name: anchors, mountPath: /anchors}
  - {name: anchor-key, mountPath: /etc/psm/anchor-key, readOnly: true}
  {{- end }}
  {{- with .root.Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
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
  {{- if gt (len $identity) 1 }}
  {{- fail "nats.auth names more than one of credsKey, nkeySeedKey, tokenKey and passwordKey: a part is one user" }}
  {{- end }}
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
  {{- if not (or .existingSecret .allowPlain) }}
  {{- fail "nats.tls.existingSecret is required: a secret with the CA of the servers; or say nats.tls.allowPlain=true" }}
  {{- end }}
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
  {{- with .root.Values.postgres.tls }}
  {{- if .existingSecret }}
  - {name: PGSSLMODE, value: verify-full}
  - {name: PGSSLROOTCERT, value: /etc/psm/postgres-tls/ca.crt}
  {{- else if not .allowPlain }}
  {{- fail "postgres.tls.existingSecret is required: a secret with the CA of the server; or say postgres.tls.allowPlain=true" }}
  {{- end }}
  {{- end }}
  - {name: POSTGRES_DSN_FILE, value: {{ include "psm.postgresKey" . | printf "/etc/psm/postgres/%s" | quote }}}
  {{- range .logins }}
  - name: POSTGRES_{{ upper . }}_DSN_FILE
    value: {{ include "psm.postgresKey" (dict "root" $.root "postgres" .) | printf "/etc/psm/postgres/%s" | quote }}
  {{- end }}
  {{- end }}
  {{- if (.secrets).bootstrap }}
  - {name: PSM_HTTP_BOOTSTRAP_TOKEN_FILE, value: {{ printf "/etc/psm/bootstrap/%s" .root.Values.api.bootstrap.key | quote }}}
  {{- end }}
  {{- with .root.Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* Pods of which one may be away at a time, because there are others. */}}
{{- define "psm.disruption" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ printf "%s-%s" (include "psm.fullname" .root) .component }}
  labels:
    {{- include "psm.labels" . | nindent 4 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels:
      {{- include "psm.selector" . | nindent 6 }}
{{- end -}}

{{/* Health and metrics of processes that serve nothing else */}}
{{- define "psm.metricsEnv" -}}
- {name: PSM_METRICS_HOST, value: {{ .root.Values.listenAddress | quote }}}
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

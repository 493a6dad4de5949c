{{/* Names, labels, and what the bridge, the topics' Job and the check have in common. */}}

{{- define "bridge.name" -}}
{{ .Values.nameOverride | default .Chart.Name | trunc 50 | trimSuffix "-" }}
{{- end }}

{{/* Short enough for a StatefulSet, whose pods carry a label of the name and a hash. */}}
{{- define "bridge.fullname" -}}
{{- $name := include "bridge.name" . -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{ .Values.fullnameOverride | default $full | trunc 50 | trimSuffix "-" }}
{{- end }}

{{/* What every pod of the release is known by. */}}
{{- define "bridge.ours" -}}
app.kubernetes.io/name: {{ include "bridge.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* What the instances are known by, and neither Job nor check. */}}
{{- define "bridge.selector" -}}
{{ include "bridge.ours" . }}
app.kubernetes.io/component: bridge
{{- end }}

{{- define "bridge.labels" -}}
{{ include "bridge.ours" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "bridge.headless" -}}
{{ include "bridge.fullname" . }}-headless
{{- end }}

{{- define "bridge.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: {{ int64 .Values.user }}
runAsGroup: {{ int64 .Values.user }}
fsGroup: {{ int64 .Values.user }}
# A journal of a gigabyte is not walked through at every start.
fsGroupChangePolicy: OnRootMismatch
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{/* How the program is started: its image, its confinement, its files. The list of arguments is the caller's. */}}
{{- define "bridge.program" -}}
{{- $image := .Values.image -}}
image: "{{ $image.repository }}{{ if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default .Chart.AppVersion }}{{ end }}"
imagePullPolicy: {{ $image.pullPolicy }}
command: [linxo-bridge]
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
resources: {{- toYaml .Values.resources | nindent 2 }}
{{- end }}

{{- define "bridge.mounts" -}}
- { name: config, mountPath: /etc/linxo-bridge/config, readOnly: true }
- { name: secrets, mountPath: /etc/linxo-bridge/secrets, readOnly: true }
{{- if .Values.secrets.kafka.name }}
- { name: kafka, mountPath: /etc/linxo-bridge/kafka, readOnly: true }
{{- end }}
{{- end }}

{{/* Of the release and the name of the ConfigMap. */}}
{{- define "bridge.volumes" -}}
{{- $secrets := .root.Values.secrets -}}
- name: config
  configMap: { name: {{ .config }} }
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      - secret:
          name: {{ $secrets.keys.name }}
          items: [{ key: {{ $secrets.keys.key | quote }}, path: keys }]
      - secret:
          name: {{ $secrets.adminToken.name }}
          items: [{ key: {{ $secrets.adminToken.key | quote }}, path: token }]
      {{- with $secrets.clientSecret }}
      {{- if .name }}
      - secret:
          name: {{ .name }}
          items: [{ key: {{ .key | quote }}, path: client-secret }]
      {{- end }}
      {{- end }}
{{- with $secrets.kafka.name }}
- name: kafka
  secret: { secretName: {{ . }}, defaultMode: 0440 }
{{- end }}
{{- end }}

{{/* A pod that runs the program once. Of the release, the name of the ConfigMap, and the arguments. */}}
{{- define "bridge.once" -}}
restartPolicy: Never
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext: {{- include "bridge.podSecurityContext" .root | nindent 2 }}
containers:
  - name: {{ .arguments | first }}
    {{- include "bridge.program" .root | nindent 4 }}
    args: {{ concat (list "--config" "/etc/linxo-bridge/config/linxo-bridge.toml") .arguments | toJson }}
    {{- with .root.Values.extraEnv }}
    env: {{- toYaml . | nindent 6 }}
    {{- end }}
    volumeMounts: {{- include "bridge.mounts" .root | nindent 6 }}
volumes: {{- include "bridge.volumes" . | nindent 2 }}
{{- end }}

{{/* Rules of a NetworkPolicy: to name services, and to what the configuration names. */}}
{{- define "bridge.nameServices" -}}
- ports:
    - { protocol: UDP, port: 53 }
    - { protocol: TCP, port: 53 }
{{- end }}

{{- define "bridge.destinations" -}}
- ports:
    {{- range include "bridge.destinationPorts" . | fromJsonArray }}
    - { protocol: TCP, port: {{ int64 . }} }
    {{- end }}
  {{- with .Values.networkPolicy.destinations }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{/* A text whose links to the runbook go where the values say. */}}
{{- define "bridge.linked" -}}
{{- $there := .root.Values.monitoring.runbookUrl | default "https://runbook.example/linxo-bridge" -}}
{{- .text | trim | replace "https://runbook.example/linxo-bridge" $there -}}
{{- end }}

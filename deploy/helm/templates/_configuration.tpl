{{/* The bridge's configuration: config of the values, with what the chart itself sets over it, as TOML. */}}

{{- define "bridge.configuration" -}}
{{- $secrets := .Values.secrets -}}
{{- $service := printf "http://%s.%s.svc:8080" (include "bridge.fullname" .) .Release.Namespace -}}
{{- $own := dict
  "journal" (dict "directory" "/var/lib/linxo-bridge/journal")
  "credentials" (dict "key_file" "/etc/linxo-bridge/secrets/keys")
  "admin" (dict "listen" "0.0.0.0:8080" "advertised_url" $service "token_file" "/etc/linxo-bridge/secrets/token") -}}
{{- if $secrets.clientSecret.name -}}
{{- $_ := set $own "linxo" (dict "client_secret_file" "/etc/linxo-bridge/secrets/client-secret") -}}
{{- end -}}
{{- $sections := mergeOverwrite (deepCopy .Values.config) $own -}}
{{- range $section := keys $sections | sortAlpha }}
[{{ $section }}]
{{- $settings := get $sections $section }}
{{- range $name := keys $settings | sortAlpha }}
{{ $name }} = {{ include "bridge.toml" (get $settings $name) }}
{{- end }}
{{ end }}
{{- end }}

{{/* One value as TOML. A JSON string is a TOML string; Helm's own toToml writes whole numbers as 64.0. */}}
{{- define "bridge.toml" -}}
{{- if kindIs "map" . -}}
{ {{- range $at, $name := keys . | sortAlpha }}{{ if $at }},{{ end }} {{ toJson $name }} = {{ include "bridge.toml" (get $ $name) }}{{ end }} }
{{- else if kindIs "slice" . -}}
[{{ range $at, $item := . }}{{ if $at }}, {{ end }}{{ include "bridge.toml" $item }}{{ end }}]
{{- else if kindIs "string" . -}}
{{ toJson . }}
{{- else if and (kindIs "float64" .) (eq (floor .) .) -}}
{{ int64 . }}
{{- else -}}
{{ . }}
{{- end -}}
{{- end }}

{{/* The TCP ports that the configuration names, as a JSON list. */}}
{{- define "bridge.destinationPorts" -}}
{{- $ports := .Values.networkPolicy.ports -}}
{{- range splitList "," .Values.config.kafka.bootstrap_servers -}}
{{- $ports = append $ports (regexFind ":[0-9]+$" (trim .) | trimPrefix ":" | default "9092" | atoi) -}}
{{- end -}}
{{- $registry := .Values.config.schema_registry | default dict -}}
{{- $telemetry := .Values.config.telemetry | default dict -}}
{{- range compact (list .Values.config.linxo.api_url .Values.config.linxo.auth_url $registry.url $telemetry.otlp_endpoint) -}}
{{- $default := ternary "443" "80" (hasPrefix "https:" .) -}}
{{- $ports = append $ports (regexFind ":[0-9]+$" (urlParse .).host | trimPrefix ":" | default $default | atoi) -}}
{{- end -}}
{{- $whole := list -}}
{{- range $ports }}{{ $whole = append $whole (int .) }}{{ end -}}
{{- $whole | uniq | toJson -}}
{{- end }}

{{/* A duration of the configuration in milliseconds. */}}
{{- define "bridge.milliseconds" -}}
{{- $units := dict "d" 86400000 "h" 3600000 "m" 60000 "s" 1000 "ms" 1 -}}
{{- $total := 0 -}}
{{- range regexFindAll "[0-9]+(ms|[dhms])" . -1 -}}
{{- $total = add $total (mul (regexFind "[0-9]+" . | atoi) (get $units (regexFind "[a-z]+" .))) -}}
{{- end -}}
{{- $total -}}
{{- end }}

{{/* A size of the configuration or of Kubernetes in bytes. */}}
{{- define "bridge.bytes" -}}
{{- $units := dict "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000
  "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- mul (regexFind "^[0-9]+" . | atoi) (get $units (regexFind "[a-zA-Z]+" . | trimSuffix "B") | default 1) -}}
{{- end }}

{{/* A stop takes service.grace, and after it 2 s to leave the group, 2 s to send traces and 10 s for calls under way, whatever
service.drain is: so never less than 15 s more. */}}
{{- define "bridge.stopSeconds" -}}
{{- $service := .Values.config.service -}}
{{- $drain := max 5000 (include "bridge.milliseconds" $service.drain) -}}
{{- $wanted := add (include "bridge.milliseconds" $service.grace) $drain -}}
{{- add (div (add $wanted 999) 1000) 10 -}}
{{- end }}

{{/* How often the startup probe asks, every 5 s. The whole journal is read at start, which on disk may be twice
config.journal.max_bytes: at 20 MiB a second that is 100 MiB from one question to the next. Never less than five minutes. */}}
{{- define "bridge.startupQuestions" -}}
{{- $journal := mul 2 (include "bridge.bytes" .Values.config.journal.max_bytes) -}}
{{- $each := 104857600 -}}
{{- max 60 (div (add $journal (sub $each 1)) $each) -}}
{{- end }}

{{/* Refuses what does not go together: all of it at once, each with what to do. */}}
{{- define "bridge.check" -}}
{{- $faults := list -}}
{{- $config := .Values.config -}}
{{- $secrets := .Values.secrets -}}
{{- if and $config.linxo.client_id (not $secrets.clientSecret.name) -}}
{{- $faults = append $faults "config.linxo.client_id is given without secrets.clientSecret.name: name the Secret that holds the client's secret" -}}
{{- end -}}
{{- if and $secrets.clientSecret.name (not $config.linxo.client_id) -}}
{{- $faults = append $faults "secrets.clientSecret.name is given without config.linxo.client_id: give the id too, or leave the Secret out" -}}
{{- end -}}
{{- range $table := list "properties" "producer" "consumer" -}}
{{- range $name := keys (get $config.kafka $table | default dict) | sortAlpha -}}
{{- if regexMatch "(?i)(password|passphrase|secret|token|jaas.config|key.pem|oauthbearer.config)$" $name -}}
{{- $faults = append $faults (printf "config.kafka.%s.%q would stand in a ConfigMap: put the value into the Secret of secrets.kafka, and write %q: /etc/linxo-bridge/kafka/KEY" $table $name (printf "%s_file" $name)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $least := mul 2 (include "bridge.bytes" $config.journal.max_bytes) -}}
{{- if lt (include "bridge.bytes" .Values.persistence.size | int64) $least -}}
{{- $faults = append $faults (printf "persistence.size %s is less than twice config.journal.max_bytes %s: a journal takes up to that on disk" .Values.persistence.size $config.journal.max_bytes) -}}
{{- end -}}
{{- if $faults }}{{ fail (printf "\n- %s\n" (join "\n- " $faults)) }}{{ end -}}
{{- end }}

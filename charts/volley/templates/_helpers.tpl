{{- define "volley.labels" -}}
app.kubernetes.io/name: volley
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* A Job's template cannot be changed: what it runs is part of its name. */ -}}
{{- define "volley.job" -}}
{{- printf "%s-%s" (.Release.Name | trunc 50 | trimSuffix "-") (toJson .Values | sha256sum | trunc 8) -}}
{{- end }}

{{- define "volley.script" -}}
{{- $given := list -}}
{{- range list "inline" "configMap" "claim" -}}
{{- if index $.Values.script . }}{{ $given = append $given . }}{{ end -}}
{{- end -}}
{{- if ne (len $given) 1 -}}
{{- fail "set exactly one of script.inline, script.configMap and script.claim" -}}
{{- end -}}
{{- first $given -}}
{{- end }}

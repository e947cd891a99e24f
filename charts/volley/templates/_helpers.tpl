{{- define "volley.labels" -}}
app.kubernetes.io/name: volley
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* The points between the parts of the load: 0,1/3,2/3,1 for three agents. */ -}}
{{- define "volley.sequence" -}}
{{- $n := int .Values.parallelism -}}
0{{ range $i := untilStep 1 $n 1 }},{{ $i }}/{{ $n }}{{ end }},1
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

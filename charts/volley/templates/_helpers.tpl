{{- define "volley.labels" -}}
app.kubernetes.io/name: volley
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* Of everything but the Job's pods, which must not be found as those of another release. */ -}}
{{- define "volley.chartLabels" -}}
{{ include "volley.labels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "volley.name" -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{- /* A Job's template cannot be changed: what it runs is part of its name. What watches it is not. */ -}}
{{- define "volley.job" -}}
{{- $runs := omit .Values "podMonitor" "prometheusRule" "dashboard" "labels" "annotations" "ttlSecondsAfterFinished" "global" -}}
{{- $hash := printf "%s %s %s" .Chart.Version .Chart.AppVersion (toJson $runs) | sha256sum | trunc 8 -}}
{{- printf "%s-%s" (include "volley.name" .) $hash -}}
{{- end }}

{{- define "volley.script" -}}
{{- $given := list -}}
{{- range list "inline" "configMap" "claim" "image" -}}
{{- if index $.Values.script . }}{{ $given = append $given . }}{{ end -}}
{{- end -}}
{{- if ne (len $given) 1 -}}
{{- fail "set exactly one of script.inline, script.configMap, script.claim and script.image" -}}
{{- end -}}
{{- $kind := first $given -}}
{{- $whole := hasPrefix "/" .Values.script.file -}}
{{- if and (eq $kind "image") (not $whole) -}}
{{- fail "with script.image, script.file is a whole path in the image, as /test/test.js" -}}
{{- else if and (ne $kind "image") $whole -}}
{{- fail (printf "script.file is a path inside of script.%s and does not begin with /" $kind) -}}
{{- else if and (has $kind (list "inline" "configMap")) (contains "/" .Values.script.file) -}}
{{- fail "a ConfigMap has no folders: script.file is one of its keys (script.claim can have folders)" -}}
{{- else if gt (len .Values.script.inline) 1000000 -}}
{{- fail "script.inline is over the 1 MB that a ConfigMap can hold: put it on a volume (script.claim), or into the image" -}}
{{- end -}}
{{- $kind -}}
{{- end }}

{{- define "volley.path" -}}
{{- if eq (include "volley.script" .) "image" -}}
{{- .Values.script.file -}}
{{- else -}}
{{- printf "/scripts/%s" .Values.script.file -}}
{{- end -}}
{{- end }}

{{- define "volley.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository (.tag | default $.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "volley.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "volley.name" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end }}

{{- /* The argument of --out. Settings are in the order of their names, so that the Job's name is stable. */ -}}
{{- define "volley.out" -}}
{{- $settings := list (printf "namespace=%s" .Values.metrics.namespace) (printf "port=%d" (int .Values.metrics.port)) -}}
{{- $more := dict -}}
{{- with .Values.metrics -}}
{{- if ne .trend "summary" }}{{ $_ := set $more "trend" .trend }}{{ end -}}
{{- with .buckets }}{{ $_ := set $more "buckets" (join "," . | replace "+" "") }}{{ end -}}
{{- with .labels }}{{ $_ := set $more "labels" (join "," .) }}{{ end -}}
{{- with .drop }}{{ $_ := set $more "drop" (join "," .) }}{{ end -}}
{{- with .maxSeries }}{{ $_ := set $more "max_series" (int .) }}{{ end -}}
{{- if and .buckets (not (has .trend (list "histogram" "both"))) -}}
{{- fail "metrics.buckets are those of metrics.trend=histogram or both" -}}
{{- end -}}
{{- $more = merge (deepCopy .settings) $more -}}
{{- end -}}
{{- range $name, $value := $more -}}
{{- $settings = append $settings (printf "%s=%v" $name $value) -}}
{{- end -}}
prometheus={{ join "&" $settings }}
{{- end }}

{{- /* What stands before the names of k6's metrics. */ -}}
{{- define "volley.prefix" -}}
{{- with .Values.metrics.namespace }}{{ . }}_{{ end -}}
{{- end }}

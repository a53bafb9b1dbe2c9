{{- define "multiactive.labels" -}}
app.kubernetes.io/name: multiactive
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "multiactive.operatorLabels" -}}
app.kubernetes.io/name: multiactive
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{/* The name of one process's image: (list . "arbiter") */}}
{{- define "multiactive.image" -}}
{{- $root := index . 0 -}}
{{- $image := index $root.Values.images (index . 1) -}}
{{ $image.repository }}:{{ $image.tag | default $root.Chart.AppVersion }}
{{- end }}

{{- define "multiactive.transportSecret" -}}
{{ .Values.transport.tlsSecret | default (printf "%s-transport" .Release.Name) }}
{{- end }}

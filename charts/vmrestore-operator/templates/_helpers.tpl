{{- define "vmrestore.labels" -}}
app.kubernetes.io/name: vmrestore-operator
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "vmrestore.selector" -}}
app.kubernetes.io/name: vmrestore-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "vmrestore.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

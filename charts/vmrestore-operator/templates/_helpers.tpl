{{/* Cluster-wide objects bear it too: a release that is named after something else gets this product's name behind it. */}}
{{- define "vmrestore.fullname" -}}
{{- if contains "vmrestore" .Release.Name -}}
{{ .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-vmrestore" (.Release.Name | trunc 53 | trimSuffix "-") }}
{{- end -}}
{{- end -}}

{{- define "vmrestore.labels" -}}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
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

{{- define "todoke.name" -}}
{{ default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "todoke.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "todoke.name" .) .Release.Name -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name (include "todoke.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "todoke.selector" -}}
app.kubernetes.io/name: {{ include "todoke.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "todoke.labels" -}}
{{ include "todoke.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "todoke.image" -}}
{{- $repository := required "image.repository is empty: name the image that holds todoke" .Values.image.repository -}}
{{- if .Values.image.digest -}}
{{ $repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ $repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{- define "todoke.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "todoke.fullname" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end }}
{{- end }}

{{- define "todoke.files" -}}
todoke.toml: {{ required "config.todoke is empty: --set-file config.todoke=todoke.toml" .Values.config.todoke | quote }}
policy.toml: {{ required "config.policy is empty: --set-file config.policy=policy.toml" .Values.config.policy | quote }}
partners.toml: {{ required "config.partners is empty: --set-file config.partners=partners.toml" .Values.config.partners | quote }}
{{- end }}

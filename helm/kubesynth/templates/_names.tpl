{{/* Name of the release's objects: at most 45 characters, so that a suffix fits into a label. */}}
{{- define "kubesynth.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 45 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 45 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 45 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "kubesynth.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "kubesynth.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "kubesynth.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* The operator admits itself to its runners by the first label: it is fixed. */}}
{{- define "kubesynth.selectorLabels" -}}
app.kubernetes.io/name: kubesynth-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "kubesynth.labels" -}}
{{ include "kubesynth.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: kubesynth
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* JSON list of the namespaces that are served one by one; empty in cluster mode. */}}
{{- define "kubesynth.namespaces" -}}
{{- if .Values.namespaced -}}
{{- default (list .Release.Namespace) .Values.namespaces | uniq | toJson -}}
{{- else -}}
[]
{{- end -}}
{{- end -}}

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
app.kubernetes.io/instance: {{ .Release.Name | quote }}
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

{{/* JSON list of references to Secrets, from a list of their names or of such references. */}}
{{- define "kubesynth.secretReferences" -}}
{{- $references := list -}}
{{- range . -}}
{{- $references = append $references (ternary (dict "name" .) . (kindIs "string" .)) -}}
{{- end -}}
{{- $references | toJson -}}
{{- end -}}

{{/* A security context as JSON, without user and groups where the platform chooses them. */}}
{{- define "kubesynth.securityContext" -}}
{{- if .root.Values.userFromPlatform -}}
{{- omit (default dict .context) "runAsUser" "runAsGroup" "fsGroup" | toJson -}}
{{- else -}}
{{- default dict .context | toJson -}}
{{- end -}}
{{- end -}}

{{/* What the operator is told of the pods of all jobs: JSON, with what is empty left out. */}}
{{- define "kubesynth.runnerDefaults" -}}
{{- $defaults := dict -}}
{{- $variables := list -}}
{{- range .Values.runner.env -}}
{{- $variables = append $variables .name -}}
{{- end -}}
{{- if ne (len $variables) (len (uniq $variables)) -}}
{{- fail (printf "runner.env has a name twice: %s" (join ", " $variables)) -}}
{{- end -}}
{{- range $name, $value := omit .Values.runner "image" "imagePullSecrets" "podSecurityContext" "securityContext" -}}
{{- if $value -}}
{{- $_ := set $defaults $name $value -}}
{{- end -}}
{{- end -}}
{{- with .Values.runner.imagePullSecrets -}}
{{- $_ := set $defaults "imagePullSecrets" (include "kubesynth.secretReferences" . | fromJsonArray) -}}
{{- end -}}
{{- $defaults | toJson -}}
{{- end -}}

{{/* JSON list of environment variables: those of `env` that `over` does not name, and those of `over`. */}}
{{- define "kubesynth.environment" -}}
{{- $variables := list -}}
{{- $names := list -}}
{{- range .over -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- range .env -}}
{{- if not (has .name $names) -}}
{{- $variables = append $variables . -}}
{{- end -}}
{{- end -}}
{{- concat $variables .over | toJson -}}
{{- end -}}

{{/* An image of another registry as it is called in the mirror. */}}
{{- define "kubesynth.mirrored" -}}
{{- $parts := splitn "/" 2 .image -}}
{{- $registry := "docker.io" -}}
{{- $rest := .image -}}
{{- if and $parts._1 (or (contains "." $parts._0) (contains ":" $parts._0) (eq $parts._0 "localhost")) -}}
{{- $registry = $parts._0 -}}
{{- $rest = $parts._1 -}}
{{- end -}}
{{- printf "%s/%s" (replace "{registry}" $registry .mirror) $rest -}}
{{- end -}}

{{/* Name of everything of the operator: the release, once, even when it is called like the chart. */}}
{{- define "channelcluster.name" -}}
{{- if eq .Release.Name .Chart.Name -}}
channel-operator
{{- else -}}
{{- printf "%s-channel-operator" .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Name of cluster-wide objects: two releases in two namespaces must not share one. */}}
{{- define "channelcluster.clusterName" -}}
{{- printf "%s:%s" .Release.Namespace (include "channelcluster.name" .) -}}
{{- end -}}

{{- define "channelcluster.selectorLabels" -}}
app.kubernetes.io/name: channel-operator
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "channelcluster.labels" -}}
{{ include "channelcluster.selectorLabels" . }}
app.kubernetes.io/component: operator
app.kubernetes.io/part-of: channelcluster
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
{{- end -}}

{{/* An image that was given, or the one of this chart's version: (list context given repository). */}}
{{- define "channelcluster.image" -}}
{{- $context := index . 0 -}}
{{- default (printf "channelcluster.io/%s:%s" (index . 2) $context.Chart.AppVersion) (index . 1) -}}
{{- end -}}

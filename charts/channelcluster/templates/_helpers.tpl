{{/* Name of all objects of the operator, made from the release's name, which is left out when it is the chart's. A
release's name may have dots and begin with a digit, and that of a Service may not. */}}
{{- define "channelcluster.name" -}}
{{- if eq .Release.Name .Chart.Name -}}
channel-operator
{{- else -}}
{{- $release := .Release.Name | lower | replace "." "-" -}}
{{- if regexMatch "^[^a-z]" $release }}{{ $release = printf "release-%s" $release }}{{ end -}}
{{- printf "%s-channel-operator" $release | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Fails when an existing object belongs to another release or to none: Helm would refuse it, and not say what to do.
(list context apiVersion kind namespace name remedy). When Helm renders without a server, it finds no object. */}}
{{- define "channelcluster.notForeign" -}}
{{- $context := index . 0 -}}
{{- $object := lookup (index . 1) (index . 2) (index . 3) (index . 4) -}}
{{- if $object -}}
{{- $annotations := dig "metadata" "annotations" (dict) $object -}}
{{- $release := dig "meta.helm.sh/release-name" "" $annotations -}}
{{- $namespace := dig "meta.helm.sh/release-namespace" "" $annotations -}}
{{- if or (ne $release $context.Release.Name) (ne $namespace $context.Release.Namespace) -}}
{{- $owner := "no Helm release" -}}
{{- if $release }}{{ $owner = printf "release %s in namespace %s" $release $namespace }}{{ end -}}
{{- $what := printf "%s %s" (lower (index . 2)) (index . 4) -}}
{{- $flag := "" -}}
{{- if index . 3 }}{{ $flag = printf "-n %s " (index . 3) }}{{ end -}}
{{- fail (printf "%s is there and belongs to %s. %s, or hand it over to this release: kubectl %sannotate --overwrite %s meta.helm.sh/release-name=%s meta.helm.sh/release-namespace=%s && kubectl %slabel --overwrite %s app.kubernetes.io/managed-by=Helm" $what $owner (index . 5) $flag $what $context.Release.Name $context.Release.Namespace $flag $what) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Name of cluster-wide objects: two releases in two namespaces must not share one. */}}
{{- define "channelcluster.clusterName" -}}
{{- printf "%s:%s" .Release.Namespace (include "channelcluster.name" .) -}}
{{- end -}}

{{/* Security context of the operator's pods. OpenShift assigns ids and refuses ours; ids other than the default were
set by the user and stay. */}}
{{- define "channelcluster.podSecurityContext" -}}
{{- $context := .Values.operator.podSecurityContext -}}
{{- if .Capabilities.APIVersions.Has "security.openshift.io/v1" -}}
{{- range $id := list "runAsUser" "runAsGroup" -}}
{{- if eq (toString (index $context $id)) "65532" }}{{ $context = omit $context $id }}{{ end -}}
{{- end -}}
{{- end -}}
{{- toYaml $context -}}
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

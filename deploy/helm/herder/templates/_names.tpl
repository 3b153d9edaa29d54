{{/* The labels of every object. */}}
{{- define "herder.labels" -}}
app.kubernetes.io/name: herder
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* The labels by which the agent's pods are found; they never change. */}}
{{- define "herder.selector" -}}
app.kubernetes.io/name: herder
{{- end }}

{{/* The image, by digest if there is one. */}}
{{- define "herder.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* The capabilities that the agent adds, as a JSON list. */}}
{{- define "herder.capabilities" -}}
{{- $added := list -}}
{{- if .Values.ebpf -}}
{{- $added = list "BPF" "PERFMON" -}}
{{- end -}}
{{- if .Values.busyNodes -}}
{{- $added = append $added "SYS_NICE" -}}
{{- end -}}
{{- if .Values.protectInit.enabled -}}
{{- $added = append $added "DAC_OVERRIDE" -}}
{{- end -}}
{{- /* Older kernels limit the memory of maps, which only eBPF has. */ -}}
{{- if or (and .Values.ebpf .Values.kernelBelow511) .Values.protectInit.enabled -}}
{{- $added = append $added "SYS_RESOURCE" -}}
{{- end -}}
{{- if and .Values.rootless (not .Values.protectInit.enabled) -}}
{{- $added = append $added "DAC_OVERRIDE" -}}
{{- end -}}
{{- toJson $added -}}
{{- end }}

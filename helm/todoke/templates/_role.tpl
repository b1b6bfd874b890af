{{- /* A role: its Deployment and its disruption budget. Takes: root, component, args, role; hears, if partners report to it. */ -}}
{{- define "todoke.role" -}}
{{- $name := printf "%s-%s" (include "todoke.fullname" .root) .component -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "todoke.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
spec:
  {{- if not (kindIs "invalid" .role.replicas) }}
  replicas: {{ .role.replicas }}
  {{- end }}
  strategy: # each change of members moves partitions, so one at a time
    type: RollingUpdate
    rollingUpdate: {maxSurge: 1, maxUnavailable: 0}
  selector:
    matchLabels:
      {{- include "todoke.selector" .root | nindent 6 }}
      app.kubernetes.io/component: {{ .component }}
  template:
    {{- include "todoke.pod" (dict
      "root" .root
      "component" .component
      "args" .args
      "resources" .role.resources
      "grace" .role.terminationGracePeriodSeconds
      "config" (include "todoke.fullname" .root)
      "serviceAccount" (include "todoke.serviceAccount" .root)
      "serves" true
      "hears" .hears
    ) | nindent 4 }}
{{- with .root.Values.podDisruptionBudget }}
{{- if .enabled }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ $name }}
  namespace: {{ $.root.Release.Namespace }}
  labels:
    {{- include "todoke.labels" $.root | nindent 4 }}
    app.kubernetes.io/component: {{ $.component }}
spec:
  maxUnavailable: {{ .maxUnavailable }}
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "todoke.selector" $.root | nindent 6 }}
      app.kubernetes.io/component: {{ $.component }}
{{- end }}
{{- end }}
{{- end }}

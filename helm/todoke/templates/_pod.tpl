{{- /* The pod of every role, and of the hook. Takes: root, component, args, resources, grace, config, serviceAccount, serves, hears. */ -}}
{{- define "todoke.pod" -}}
metadata:
  labels:
    {{- with .root.Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- include "todoke.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
  annotations:
    {{- with .root.Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    checksum/config: {{ include "todoke.files" .root | sha256sum }}
spec:
  serviceAccountName: {{ .serviceAccount }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  securityContext:
    {{- toYaml .root.Values.podSecurityContext | nindent 4 }}
  {{- with .grace }}
  terminationGracePeriodSeconds: {{ . }}
  {{- end }}
  {{- if not .serves }}
  restartPolicy: Never
  {{- end }}
  {{- with .root.Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .root.Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .root.Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .root.Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .root.Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if .serves }}
  topologySpreadConstraints:
    {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
    - topologyKey: {{ . }}
      maxSkew: 1
      whenUnsatisfiable: ScheduleAnyway
      matchLabelKeys: [pod-template-hash]
      labelSelector:
        matchLabels:
          {{- include "todoke.selector" $.root | nindent 10 }}
          app.kubernetes.io/component: {{ $.component }}
    {{- end }}
  {{- end }}
  containers:
    - name: todoke
      image: {{ include "todoke.image" .root }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      command: [todoke]
      args: {{ toJson .args }}
      workingDir: /tmp
      env:
        - name: TODOKE_CONFIG
          value: /etc/todoke/todoke.toml
        - name: TODOKE_POLICY
          value: /etc/todoke/policy.toml
        - name: TODOKE_PARTNERS
          value: /etc/todoke/partners.toml
        {{- with .root.Values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with .root.Values.existingSecret }}
      envFrom:
        - secretRef:
            name: {{ . }}
      {{- end }}
      {{- if .serves }}
      ports:
        - name: metrics
          containerPort: 9464
        {{- if .hears }}
        - name: callbacks
          containerPort: 9465
        {{- end }}
      startupProbe: # five minutes to come up; /live asks nothing of Kafka or Valkey
        httpGet: {path: /live, port: metrics}
        periodSeconds: 5
        failureThreshold: 60
      livenessProbe:
        httpGet: {path: /live, port: metrics}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: {path: /ready, port: metrics}
        periodSeconds: 5
        timeoutSeconds: 5
      {{- end }}
      resources:
        {{- toYaml .resources | nindent 8 }}
      securityContext:
        {{- toYaml .root.Values.securityContext | nindent 8 }}
      volumeMounts:
        - name: tmp
          mountPath: /tmp
        - name: config
          mountPath: /etc/todoke
          readOnly: true
        {{- if .root.Values.existingSecret }}
        - name: secrets # beside /etc/todoke: nothing can be mounted inside a read-only volume
          mountPath: /run/secrets/todoke
          readOnly: true
        {{- end }}
        {{- with .root.Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: tmp
      emptyDir:
        sizeLimit: {{ .root.Values.tmp.sizeLimit }}
    - name: config
      configMap:
        name: {{ .config }}
    {{- with .root.Values.existingSecret }}
    - name: secrets
      secret:
        secretName: {{ . }}
    {{- end }}
    {{- with .root.Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

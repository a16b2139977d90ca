{{/* The settings' ConfigMap and the flows', whose names change with what is in them. */}}
{{- define "hygge.settings" -}}
{{- $settings := deepCopy .Values.settings -}}
{{- if .Values.request }}{{ $settings = set $settings "HYGGE_REQUEST" .Values.request }}{{ end -}}
{{- toYaml $settings -}}
{{- end }}
{{- define "hygge.settingsName" -}}
{{ .Release.Name }}-settings-{{ include "hygge.settings" . | sha256sum | trunc 10 }}
{{- end }}
{{- define "hygge.flowsName" -}}
{{ .Release.Name }}-flows-{{ .Values.flows | sha256sum | trunc 10 }}
{{- end }}

{{/* The pods of this release, and of no other one. */}}
{{- define "hygge.labels" -}}
app: hygge
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* A pod template: (dict "root" $ "kind" "head" or "worker" "group" its values). */}}
{{- define "hygge.pod" -}}
{{- $values := .root.Values -}}
metadata:
  labels:
    {{- include "hygge.labels" .root | nindent 4 }}
    {{- if eq $values.identity.cloud "aks" }}
    azure.workload.identity/use: "true"
    {{- end }}
spec:
  serviceAccountName: {{ .root.Release.Name }}
  {{- if and $values.autoscaling (eq .kind "head") }}
  automountServiceAccountToken: true  # the autoscaler beside the head asks the API server for workers
  {{- end }}
  terminationGracePeriodSeconds: {{ if and $values.spot (eq .kind "worker") }}15{{ else }}60{{ end }}
  {{- with $values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  affinity:
    {{- include "hygge.affinity" . | nindent 4 }}
  {{- if and $values.spot (eq .kind "worker") }}
  tolerations:
    - {key: cloud.google.com/gke-spot, operator: Equal, value: "true", effect: NoSchedule}
    - {key: kubernetes.azure.com/scalesetpriority, operator: Equal, value: spot, effect: NoSchedule}
  {{- end }}
  {{- if and $values.spread (eq .kind "worker") }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "hygge.labels" .root | nindent 10 }}
          ray.io/node-type: worker
      matchLabelKeys: [ray.io/cluster]
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 1000
    runAsGroup: 1000
    fsGroup: 1000
    seccompProfile:
      type: RuntimeDefault
  containers:
    - name: ray-{{ .kind }}
      image: {{ $values.image.repository }}:{{ $values.image.tag | default .root.Chart.AppVersion }}
      workingDir: /app
      ports:
        - {name: metrics, containerPort: 8080}
        {{- if eq .kind "head" }}
        - {name: gcs-server, containerPort: 6379}
        - {name: dashboard, containerPort: 8265}
        {{- end }}
      envFrom:
        - configMapRef: {name: {{ include "hygge.settingsName" .root }}}
        {{- with $values.secretName }}
        - secretRef: {name: {{ . }}}
        {{- end }}
      resources:
        requests: {{ toYaml .group.requests | nindent 10 }}
        limits: {{ toYaml .group.limits | nindent 10 }}
      securityContext:
        allowPrivilegeEscalation: false
        capabilities:
          drop: [ALL]
      volumeMounts:
        - {name: flows, mountPath: /app/flows, readOnly: true}
        - {name: ray-logs, mountPath: /tmp/ray}
  volumes:
    - name: flows
      configMap: {name: {{ include "hygge.flowsName" .root }}}
    - name: ray-logs
      emptyDir: {sizeLimit: {{ .group.disk }}}
{{- end }}

{{- define "hygge.affinity" -}}
{{- if .root.Values.spot -}}
nodeAffinity:
  requiredDuringSchedulingIgnoredDuringExecution:
    nodeSelectorTerms:
      {{- if eq .kind "worker" }}
      - matchExpressions:
          - {key: eks.amazonaws.com/capacityType, operator: In, values: [SPOT]}
      - matchExpressions:
          - {key: karpenter.sh/capacity-type, operator: In, values: [spot]}
      - matchExpressions:
          - {key: cloud.google.com/gke-spot, operator: In, values: ["true"]}
      - matchExpressions:
          - {key: kubernetes.azure.com/scalesetpriority, operator: In, values: [spot]}
      {{- else }}
      - matchExpressions:
          - {key: eks.amazonaws.com/capacityType, operator: NotIn, values: [SPOT]}
          - {key: karpenter.sh/capacity-type, operator: NotIn, values: [spot]}
          - {key: cloud.google.com/gke-spot, operator: DoesNotExist}
          - {key: kubernetes.azure.com/scalesetpriority, operator: DoesNotExist}
      {{- end }}
{{ end -}}
{{- if and .root.Values.spread (eq .kind "worker") -}}
podAffinity:
  preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      podAffinityTerm:
        topologyKey: topology.kubernetes.io/zone
        labelSelector:
          matchLabels:
            {{- include "hygge.labels" .root | nindent 12 }}
        matchLabelKeys: [ray.io/cluster]
{{ end -}}
{{- if not (or .root.Values.spot (and .root.Values.spread (eq .kind "worker"))) -}}
{}
{{- end -}}
{{- end }}

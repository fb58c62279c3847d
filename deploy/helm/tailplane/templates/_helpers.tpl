{{- define "tailplane.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What selects pods: never changes over the life of a release. Takes (dict "root" $ "component" "...") and, of a
worker, "group". */}}
{{- define "tailplane.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- with .group }}
tailplane/group: {{ . }}
{{- end }}
{{- end -}}

{{- define "tailplane.labels" -}}
{{ include "tailplane.selector" . }}
app.kubernetes.io/part-of: tailplane
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{/* A group of workers, with what it leaves out taken from workerDefaults. */}}
{{- define "tailplane.group" -}}
{{- $given := .group -}}
{{- $group := mergeOverwrite (deepCopy .root.Values.workerDefaults) (deepCopy $given) -}}
{{- if hasKey $given "resources" -}}{{- $_ := set $group "resources" $given.resources -}}{{- end -}}
{{- toJson $group -}}
{{- end -}}

{{- define "tailplane.image" -}}
{{- $repository := required (printf "%s.image.repository: name the image, built by the target `%s` of deploy/Dockerfile; none is published" .of .target) .image.repository -}}
{{- if .image.digest -}}
{{ $repository }}@{{ .image.digest }}
{{- else -}}
{{ $repository }}:{{ default .root.Chart.AppVersion .image.tag }}
{{- end -}}
{{- end -}}

{{- define "tailplane.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "tailplane.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* A URL or a key in the place of a Secret's name would put what is secret into the cluster's objects; not by the schema, whose
message would repeat it. */}}
{{- define "tailplane.secret" -}}
{{- if regexMatch "[^a-z0-9.-]" .name -}}
{{- fail (printf "%s: this is the name of a Secret; what is secret is in the Secret" .of) -}}
{{- end -}}
{{- .name -}}
{{- end -}}

{{/* The variables that both programs have. A later entry of the same name would win in Kubernetes: users' own settings
come first, so that what the probes and the network policy rely on stands. */}}
{{- define "tailplane.env" -}}
{{- range $name, $value := merge (dict) .settings .root.Values.settings }}
- name: {{ $name }}
  {{- /* As JSON: a large number would become 1e+06. */}}
  value: {{ ternary $value (toJson $value) (kindIs "string" $value) | quote }}
{{- end }}
{{- with .env }}
{{ toYaml . }}
{{- end }}
- name: TAILPLANE_REDIS_URL
  valueFrom:
    secretKeyRef:
      name: {{ include "tailplane.secret" (dict "of" "redis.existingSecret" "name" (required "redis.existingSecret: name a Secret that holds the URL of Redis, such as rediss://user:password@host:6379/0" .root.Values.redis.existingSecret)) }}
      key: {{ get .root.Values.redis .key }}
{{- with .root.Values.streams.existingSecret }}
- name: TAILPLANE_STREAMS_URL
  valueFrom:
    secretKeyRef:
      name: {{ include "tailplane.secret" (dict "of" "streams.existingSecret" "name" .) }}
      key: {{ get $.root.Values.streams $.key }}
{{- end }}
- name: TAILPLANE_DRAIN_GRACE
  value: {{ printf "%ds" (int .drainGrace) | quote }}
- name: TAILPLANE_METRICS_HOST
  value: 0.0.0.0
- name: TAILPLANE_METRICS_PORT
  value: "9464"
- name: TAILPLANE_METRICS_TOKEN
{{- with .root.Values.monitoring.tokenSecret }}
  valueFrom:
    secretKeyRef:
      name: {{ include "tailplane.secret" (dict "of" "monitoring.tokenSecret" "name" .) }}
      key: {{ $.root.Values.monitoring.tokenKey }}
{{- else }}
  # The port is for those whom networkPolicy.metricsFrom names.
  value: none
{{- end }}
{{- end -}}

{{- define "tailplane.mounts" -}}
- name: tmp
  mountPath: /tmp
{{- if .root.Values.redis.tlsSecret }}
- name: redis-tls
  mountPath: /etc/tailplane/redis-tls
  readOnly: true
{{- end }}
{{- with .mounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "tailplane.volumes" -}}
- name: tmp
  emptyDir:
    sizeLimit: {{ .root.Values.tmpSize }}
{{- with .root.Values.redis.tlsSecret }}
- name: redis-tls
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- with .volumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* One node or one zone that goes should not take all of them along. */}}
{{- define "tailplane.spread" -}}
{{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
- maxSkew: 1
  topologyKey: {{ $key }}
  whenUnsatisfiable: ScheduleAnyway
  matchLabelKeys: [pod-template-hash]
  labelSelector:
    matchLabels:
      {{- include "tailplane.selector" $ | nindent 6 }}
{{- end }}
{{- end -}}

{{- define "tailplane.placement" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{- define "tailplane.probe" -}}
httpGet:
  path: {{ .path }}
  port: {{ .port }}
timeoutSeconds: 3
periodSeconds: {{ .period }}
failureThreshold: {{ .failures }}
{{- end -}}

{{/* Labels of an object, and of a part: (list . "router"). */}}
{{- define "sessionmesh.labels" -}}
{{- $root := index . 0 -}}
{{ include "sessionmesh.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ $root.Chart.Name }}-{{ $root.Chart.Version }}
{{- end }}

{{/* What finds the pods of a part, or of all parts without its name. */}}
{{- define "sessionmesh.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ $root.Chart.Name }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
{{- with index . 1 }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end }}

{{- define "sessionmesh.image" -}}
image: {{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- end }}

{{/* What every pod has in common: no rights, no token, the user of the image. */}}
{{- define "sessionmesh.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
# The pause container then takes care of processes whose parent is gone, as `init` does in Compose.
shareProcessNamespace: true
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "sessionmesh.container" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- define "sessionmesh.secret" -}}
- name: secrets
  secret:
    secretName: {{ .Values.existingSecret }}
    defaultMode: 0440
{{- end }}

{{/* How many pods a part has: (list . "StatefulSet" "session-node" its-values). A scaler's number stays as it is: without any,
what was not scaled before would fall to one. */}}
{{- define "sessionmesh.replicas" -}}
{{- $root := index . 0 -}}
{{- $values := index . 3 -}}
{{- $found := lookup "apps/v1" (index . 1) $root.Release.Namespace (printf "%s-%s" $root.Release.Name (index . 2)) -}}
{{- if not $values.autoscaling.enabled -}}
replicas: {{ $values.replicas }}
{{- else if $found -}}
replicas: {{ $found.spec.replicas }}
{{- end }}
{{- end }}

{{/* How many bytes a quantity such as 10Gi is. */}}
{{- define "sessionmesh.bytes" -}}
{{- $units := dict "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- mul (regexFind "^[0-9]+" .) (get $units (regexFind "[A-Z]i$" .)) -}}
{{- end }}

{{/* A part that serves: (list . "router" its-values), from the pod's metadata on. */}}
{{- define "sessionmesh.part" -}}
{{- $root := index . 0 -}}
{{- $part := index . 1 -}}
{{- $values := index . 2 -}}
{{- $is_node := eq $part "session-node" -}}
{{- $tls := $root.Values.tls.secretName -}}
metadata:
  labels:
    {{- include "sessionmesh.labels" (list $root $part) | nindent 4 }}
  annotations:
    # A change of settings replaces the pods, too.
    sessionmesh.dev/settings: {{ include "sessionmesh.settings" $root | sha256sum | trunc 16 | quote }}
spec:
  {{- include "sessionmesh.pod" $root | nindent 2 }}
  serviceAccountName: {{ $root.Release.Name }}-{{ $part }}
  # The pause, the drain, and what it takes to close what is open.
  terminationGracePeriodSeconds: {{ add 30 $root.Values.drainSeconds }}
  topologySpreadConstraints:
    {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "sessionmesh.selector" (list $root $part) | nindent 10 }}
    {{- end }}
  containers:
    - name: {{ $part }}
      {{- include "sessionmesh.image" $root | nindent 6 }}
      {{- include "sessionmesh.container" $root | nindent 6 }}
      {{- if and $tls (not $is_node) }}
      # Pods of a Deployment have a name in DNS that is their address with dashes, which only a shell can make of it.
      command: [sh, -c, 'MESH_SERVER_ADVERTISE=$(echo "$POD_IP" | tr . -).{{ $root.Release.Name }}-peers.{{ $root.Release.Namespace }}.svc:7600 exec mesh "$0"']
      {{- end }}
      args: [{{ $part }}]
      envFrom:
        - configMapRef: {name: {{ $root.Release.Name }}-settings}
      env:
        {{- if or (not $tls) (not $is_node) }}
        - name: POD_IP
          valueFrom: {fieldRef: {fieldPath: status.podIP}}
        {{- end }}
        {{- if $is_node }}
        - name: MESH_NODE_ID
          valueFrom: {fieldRef: {fieldPath: metadata.name}}
        - name: MESH_NODE_CAPACITY
          value: {{ $values.capacity | int64 | quote }}
        {{- end }}
        {{- if not $tls }}
        # A pod that is made anew has another address: nobody goes on with what DNS said of the one before.
        - name: MESH_SERVER_ADVERTISE
          value: "$(POD_IP):7600"
        {{- else if $is_node }}
        - name: MESH_SERVER_ADVERTISE
          value: "$(MESH_NODE_ID).{{ $root.Release.Name }}-peers.{{ $root.Release.Namespace }}.svc:7600"
        {{- end }}
        {{- if eq $part "media" }}
        - name: MESH_MEDIA_SPOOL
          value: /var/spool/sessionmesh
        # Three quarters of the volume, the rest is for what is made of files: a pod whose volume has more than its limit is ended.
        - name: MESH_MEDIA_SPOOL_BYTES
          value: {{ div (mul 3 (include "sessionmesh.bytes" $values.spool)) 4 | quote }}
        {{- end }}
      ports:
        - {name: grpc, containerPort: 7600}
        - {name: peers, containerPort: 7601}
        - {name: metrics, containerPort: 9464}
      # Whether its event loop turns: no server that is away ends a part.
      startupProbe:
        httpGet: &healthz {path: /healthz, port: metrics}
        periodSeconds: 2
        failureThreshold: 150
      livenessProbe:
        httpGet: *healthz
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: {path: /readyz, port: metrics}
        periodSeconds: 5
        timeoutSeconds: 5
      # The signal to stop is what drains a part. The pause before it is for those who found this pod in DNS a moment ago.
      lifecycle:
        preStop:
          sleep: {seconds: 5}
      resources:
        {{- toYaml $values.resources | nindent 8 }}
      volumeMounts:
        - {name: secrets, mountPath: /run/secrets/mesh, readOnly: true}
        - {name: tmp, mountPath: /tmp}
        {{- if $tls }}
        - {name: tls, mountPath: /run/secrets/tls, readOnly: true}
        {{- end }}
        {{- if eq $part "media" }}
        - {name: spool, mountPath: /var/spool/sessionmesh}
        {{- end }}
  volumes:
    {{- include "sessionmesh.secret" $root | nindent 4 }}
    - name: tmp
      emptyDir: {sizeLimit: 256Mi}
    {{- if $tls }}
    - name: tls
      secret:
        secretName: {{ $tls }}
        defaultMode: 0440
    {{- end }}
    {{- if eq $part "media" }}
    - name: spool
      emptyDir: {sizeLimit: {{ $values.spool }}}
    {{- end }}
{{- end }}

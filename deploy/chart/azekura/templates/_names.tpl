{{/* Labels of every object. */}}
{{- define "azekura.labels" -}}
app.kubernetes.io/name: azekura
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* Labels that select the pods of one component: (list $ "node"). They never change. */}}
{{- define "azekura.selector" -}}
app.kubernetes.io/name: azekura
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "azekura.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* Whether storage nodes run in this cluster. */}}
{{- define "azekura.storageHere" -}}
{{- if not .Values.external.api }}true{{ end }}
{{- end }}

{{- define "azekura.adminSecret" -}}
{{ .Values.auth.adminTokenSecret | default "azekura-admin-token" }}
{{- end }}

{{- define "azekura.csiSecret" -}}
{{ .Values.auth.csiTokenSecret | default "azekura-csi-token" }}
{{- end }}

{{/* Whether the driver has a token: with a certificate it needs none. */}}
{{- define "azekura.csiToken" -}}
{{- if or .Values.auth.csiTokenSecret (not .Values.auth.csiCredentialsSecret) }}true{{ end }}
{{- end }}

{{/* Whether storage nodes of this chart have certificates. Values that an upgrade reuses (--reuse-values) may be of a chart without any: its
     nodes are plain. */}}
{{- define "azekura.tls" -}}
{{- if and (include "azekura.storageHere" .) (.Values.tls).enabled }}true{{ end }}
{{- end }}

{{- define "azekura.authoritySecret" -}}
{{ .Values.tls.authoritySecret | default "azekura-authority" }}
{{- end }}

{{/* The Secret with the driver's certificate; nothing: it has none. */}}
{{- define "azekura.csiCredentials" -}}
{{- if include "azekura.tls" . }}azekura-csi-credentials{{ else }}{{ .Values.auth.csiCredentialsSecret }}{{ end }}
{{- end }}

{{/* Which volumes the driver's token and certificate are for. All, only if that is said. */}}
{{- define "azekura.driverLimit" -}}
{{- if eq (toString .Values.driver.kubernetes.limit) "false" -}}
--all-containers
{{- else -}}
--kubernetes={{ .Values.driver.kubernetes.cluster }}
{{- end }}
{{- end }}

{{/* Addresses of the API for driver and Job. */}}
{{- define "azekura.api" -}}
{{- if .Values.external.api -}}
{{ join "," .Values.external.api }}
{{- else -}}
{{ if include "azekura.tls" . }}https{{ else }}http{{ end }}://azekura-api.{{ .Release.Namespace }}.svc:{{ .Values.storage.ports.api }}
{{- end }}
{{- end }}

{{- define "azekura.etcdUrls" -}}
{{- if .Values.etcd.external -}}
{{ toJson .Values.etcd.external }}
{{- else -}}
{{- $urls := list }}
{{- range $index := until (int .Values.etcd.members) }}
{{- $urls = append $urls (printf "http://azekura-etcd-%d.azekura-etcd.%s.svc:2379" $index $.Release.Namespace) }}
{{- end -}}
{{ toJson $urls }}
{{- end }}
{{- end }}

{{/* Machines of etcd, as a JSON list. */}}
{{- define "azekura.etcdNodes" -}}
{{- $nodes := .Values.etcd.nodes }}
{{- if not $nodes }}
{{- range .Values.storage.nodes }}{{ $nodes = append $nodes .name }}{{ end }}
{{- end -}}
{{ toJson (slice $nodes 0 (min (len $nodes) (int .Values.etcd.members))) }}
{{- end }}

{{/* Whether any store is on listed disks. */}}
{{- define "azekura.usesDisks" -}}
{{- range .Values.storage.nodes }}{{ range .stores }}{{ if .disks }}true{{ end }}{{ end }}{{ end }}
{{- end }}

{{- define "azekura.snapshots" -}}
{{- if eq (toString .Values.snapshots.enabled) "true" }}true
{{- else if eq (toString .Values.snapshots.enabled) "auto" }}
{{- if .Capabilities.APIVersions.Has "snapshot.storage.k8s.io/v1/VolumeSnapshotClass" }}true{{ end }}
{{- end }}
{{- end }}

{{/* What every container that needs no privilege runs with. */}}
{{- define "azekura.unprivileged" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Refuses values that each are right and together cannot work. */}}
{{- define "azekura.check" -}}
{{- if .Values.external.api }}
{{- if .Values.storage.nodes }}{{ fail "external.api and storage.nodes exclude each other: the storage cluster is either outside or here" }}{{ end }}
{{- if not (or .Values.auth.csiTokenSecret .Values.auth.csiCredentialsSecret) }}{{ fail "external.api needs auth.csiTokenSecret: make a token there with `azekura token create NAME --scope csi` and put it in a Secret under the key `token` (or auth.csiCredentialsSecret, in a cluster with certificates)" }}{{ end }}
{{- else }}
{{- if .Values.auth.csiCredentialsSecret }}{{ fail "auth.csiCredentialsSecret goes with external.api: for the storage nodes of this chart it makes the driver's certificate itself (tls)" }}{{ end }}
{{- $tls := eq (include "azekura.tls" .) "true" }}
{{- if not $tls }}
{{- if or (.Values.tls).authoritySecret (.Values.tls).certificateSecret }}{{ fail "tls.enabled is false and there are Secrets with certificates: remove tls.authoritySecret and tls.certificateSecret, or enable tls" }}{{ end }}
{{- end }}
{{- $before := lookup "v1" "ConfigMap" .Release.Namespace "azekura-storage" }}
{{- if $before }}
{{- if ne (contains "credentials = " (toString $before.data)) $tls }}{{ fail (printf "the storage nodes that run are %s, and tls.enabled is %t: plain and encrypted nodes, and volumes mounted by either, do not reach each other. Set tls.enabled=%t, or see `From plain to encrypted` in docs/operating/kubernetes.md" (ternary "plain" "encrypted" $tls) $tls (not $tls)) }}{{ end }}
{{- end }}
{{- if not .Values.storage.nodes }}{{ fail "storage.nodes is empty: list the machines that hold data, for example --set 'storage.nodes[0].name=worker-1' --set 'storage.nodes[0].stores[0].id=1' (or external.api for a storage cluster elsewhere). No machine is taken unless it is listed" }}{{ end }}
{{- $ids := dict }}{{ $names := dict }}{{ $disks := dict }}
{{- range $node := .Values.storage.nodes }}
{{- if hasKey $names .name }}{{ fail (printf "storage.nodes lists %s twice" .name) }}{{ end }}
{{- $_ := set $names .name true }}
{{- range .stores }}
{{- $id := toString (int .id) }}
{{- if hasKey $ids $id }}{{ fail (printf "store %s is on %s and on %s: the number of a store is unique in the cluster" $id (get $ids $id) $node.name) }}{{ end }}
{{- $_ := set $ids $id $node.name }}
{{- range .disks }}
{{- $disk := printf "%s:%s" $node.name . }}
{{- if hasKey $disks $disk }}{{ fail (printf "%s lists %s twice" $node.name .) }}{{ end }}
{{- $_ := set $disks $disk true }}
{{- end }}
{{- end }}
{{- end }}
{{- if and .Values.storageClass.create (gt (int .Values.storageClass.replicationFactor) (len $ids)) }}{{ fail (printf "storageClass.replicationFactor is %d and there are %d stores: list more, or lower it" (int .Values.storageClass.replicationFactor) (len $ids)) }}{{ end }}
{{- if not .Values.etcd.external }}
{{- $members := len (fromJsonArray (include "azekura.etcdNodes" .)) }}
{{- if lt $members (int .Values.etcd.members) }}{{ fail (printf "etcd.members is %d and there are %d machines for them: set etcd.members=1, or list machines in etcd.nodes" (int .Values.etcd.members) $members) }}{{ end }}
{{- end }}
{{- end }}
{{- end }}

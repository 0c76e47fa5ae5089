{{/*
What the operator may do in the namespaces that it serves: in a Role for each of them, or in one
ClusterRole. Secrets, ConfigMaps and claims are read by name only: no list, no watch.
*/}}
{{- define "kubesynth.rules" -}}
- apiGroups: [kubesynth.io]
  resources: [syntheticdatajobs]
  # delete: cleanup.ttlSecondsAfterFinished
  verbs: [get, list, watch, delete]
- apiGroups: [kubesynth.io]
  resources: [syntheticdatajobs/status]
  verbs: [get, update]
- apiGroups: [kubesynth.io]
  # To own children where OwnerReferencesPermissionEnforcement is on; no finalizer is ever written.
  resources: [syntheticdatajobs/finalizers]
  verbs: [update]
- apiGroups: [kubesynth.io]
  # create, delete: the servers that jobs own
  resources: [modelservers]
  verbs: [get, list, watch, create, delete]
- apiGroups: [kubesynth.io]
  resources: [modelservers/status]
  verbs: [get, update]
- apiGroups: [kubesynth.io]
  resources: [modelservers/finalizers]
  verbs: [update]
- apiGroups: [kubesynth.io]
  # create: the classes of the chart, where they are missing
  resources:
    - modelserverclasses
    {{- if not .Values.namespaced }}
    - clustermodelserverclasses
    {{- end }}
  verbs: [get, list, watch, create]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch]
- apiGroups: [leaderworkerset.x-k8s.io]
  # servers on several nodes, where the cluster has the kind
  resources: [leaderworkersets]
  verbs: [get, list, watch, create, patch]
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, create]
- apiGroups: [""]
  resources: [secrets]
  # create: the token that a job's pods are leased their shares with, made once and owned by the job
  verbs: [get, create]
- apiGroups: [""]
  # create: caches of model servers
  resources: [persistentvolumeclaims]
  verbs: [get, create]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, create, patch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}

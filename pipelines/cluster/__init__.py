"""Runs on a cluster, seen from outside of it: a client of Kubeflow Pipelines' API, and of Kubernetes' for logs.

Nothing here runs in a pod. What a pipeline does on a cluster is what `pipelines.compile` wrote for it.
"""

"""Kubernetes as a registry: the EndpointSlices of one namespace, followed by list and watch. It can only be read."""

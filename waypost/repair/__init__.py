"""Carrying out what was decided: repair actions at the Kubernetes API, step by step, each with one effect at most."""

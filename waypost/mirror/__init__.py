"""Mirrors: what other registries know, told to the log, so that gateways see it.

A mirror declares, per service, the whole set of endpoints that its registry has, under a source of its own. So it can
be stopped, started and run twice without harm, and the route job sees to it that it never removes what others have
registered.
"""

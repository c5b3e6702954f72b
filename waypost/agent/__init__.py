"""The sidecar: it registers the instances beside it, looks after them, and finds others for them.

It speaks HTTP on a unix socket, so any language can use it; what it knows of others it has from the tables, and it
decides nobody's health but that of the instances it was told to look after.
"""

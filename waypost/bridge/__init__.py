"""The way in for alerts: Alertmanager's webhook, one record on `alerts` per alert.

It translates and vouches for nothing else: no alert is judged, joined or dropped here, except what cannot be written
as a record at all. It keeps nothing; what Kafka has not taken is Alertmanager's to send again.
"""

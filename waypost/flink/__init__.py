"""A Flink cluster seen from outside: the configuration the jobs need, its REST API, and a job kept running.

Nothing here imports PyFlink or starts a server. `waypost.local` uses it for the cluster it runs itself,
`waypost run-job` for one that somebody else runs (docker-compose, a session cluster of yours).
"""

"""The Flink jobs: topologies only. The rules they run are in `waypost.model`."""

"""What Waypost measures of itself, on the real servers of `waypost up`. Not shipped, no test: see docs/bench.md."""

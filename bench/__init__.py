"""Measurements, each run by hand: what is printed goes with machine, command and date into what cites it."""

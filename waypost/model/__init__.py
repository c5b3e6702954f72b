"""The rules: values in, values out.

Nothing here reads a clock, logs, sleeps, or imports anything that has to be installed. `now` is always
an argument, in epoch milliseconds of the log (Kafka's append time).
"""

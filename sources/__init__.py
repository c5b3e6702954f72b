"""How streams begin: connector, clock and name of every input. Sources keep no state and drop nothing."""

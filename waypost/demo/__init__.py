"""A show on real servers: a fleet registers and beats through Kafka, a reader calls it by what Redis says.

Each part is a process of its own, because that is what is measured: nothing is known to the reader but Redis, nothing
to an instance but Kafka, nothing to the visitor but the gateway. `instance` is one of the fleet, `nursery` forks them
and `fleet` steers it; `caller` is the reader, `visitor` who comes through a real gateway, `gateway` their judge;
`observed` is what the show knows of all of them. `script` says which acts there are, `acts` performs them on a `stage`,
`figures` judges, `report` prints. `play` puts it together for the command line.

It does not replace a benchmark: one machine, a small fleet, figures that include the noise of a laptop.
"""

"""Sends with the `statsd` and `datadog` clients from PyPI. Usage: statsd_clients.py PORT"""
import sys

import statsd
from datadog.dogstatsd import DogStatsd

port = int(sys.argv[1])

client = statsd.StatsClient("127.0.0.1", port)
for _ in range(10):
    client.incr("py_hits", 3)
client.gauge("py_level", 5)
client.gauge("py_level", 2, delta=True)
client.timing("py_time", 320)
client.timing("py_time", 120)
with client.pipeline() as pipe:
    pipe.incr("py_piped")
    pipe.incr("py_piped")

dogstatsd = DogStatsd(host="127.0.0.1", port=port, constant_tags=["env:prod"], disable_telemetry=True)
dogstatsd.increment("dd_pages", 5, tags=["page:home"])
for user in ("a", "b", "c", "a"):
    dogstatsd.set("dd_users", user)
dogstatsd.histogram("dd_size", 1.5)
dogstatsd.distribution("dd_size", 10)
dogstatsd.event("deploy", "done\nwell", alert_type="info", tags=["page:home"], date_happened=1_700_000_000)
dogstatsd.service_check("disk", DogStatsd.WARNING, message="90 %", hostname="box", timestamp=1_700_000_001)
dogstatsd.flush()

"""Writes with `influxdb-client` (InfluxDB 2's) from PyPI, at once and in batches. Usage: influxdb_client_v2.py PORT"""
import sys
from datetime import datetime, timezone

from influxdb_client import InfluxDBClient, Point, WriteOptions, WritePrecision
from influxdb_client.client.write_api import SYNCHRONOUS

with InfluxDBClient(url=f"http://127.0.0.1:{sys.argv[1]}", token="none", org="none") as client:
    assert client.ping()
    at_once = client.write_api(write_options=SYNCHRONOUS)
    point = Point("weather").tag("place", "Prague, CZ").tag("a=b", "c d").field("degrees", 25.3).field("note", 'he said "hi"\\')
    at_once.write("v2", record=point.field("rain", True).field("visits", 7).time(1_700_000_000, WritePrecision.S))
    at_once.write("v2/autogen", record="weather,place=Brno degrees=1 1700000001", write_precision=WritePrecision.S)
    at_once.write("v2", record={
        "measurement": "weather", "tags": {"place": "Ostrava"}, "fields": {"degrees": -2.5},
        "time": datetime(2023, 11, 14, 22, 13, 22, tzinfo=timezone.utc),
    })
    failures = []
    options = WriteOptions(batch_size=100, flush_interval=200)
    with client.write_api(write_options=options, error_callback=lambda *what: failures.append(what)) as batching:
        for i in range(1000):
            batching.write("v2", record=Point("steps").tag("host", f"h{i % 7}").field("value", i).time(1_700_000_000_000_000_000 + i))
    assert not failures, failures
    try:
        at_once.write("v2", record="weather,place=Brno degrees=oops 1")
    except Exception as error:
        assert getattr(error, "status", None) == 400, error
    else:
        raise AssertionError("a bad line was taken")
print("ok")

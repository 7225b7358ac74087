"""Sends with `opentelemetry-exporter-otlp-proto-http` from PyPI, gzipped; prints the SDK's own account of each export. Usage: otlp_exporter.py PORT"""
import sys

from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExportResult, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource

results = []


class Exporter(OTLPMetricExporter):
    def export(self, metrics_data, *args, **kwargs):
        results.append(super().export(metrics_data, *args, **kwargs))
        print(metrics_data.to_json(indent=None))
        return results[-1]


exporter = Exporter(f"http://127.0.0.1:{sys.argv[1]}/v1/metrics?db=otel", compression=Compression.Gzip)
reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)
views = [View(instrument_name="sizes", aggregation=ExponentialBucketHistogramAggregation())]
provider = MeterProvider([reader], resource=Resource({"service.name": "shop", "build": 7}), views=views)
meter = provider.get_meter("tests", "1.0")
requests = meter.create_counter("requests")
requests.add(5, {"path": "/"})
requests.add(7, {"path": "/"})
requests.add(1, {"path": "/buy now"})
meter.create_up_down_counter("open").add(-3)
meter.create_observable_gauge("temperature", [lambda _: [Observation(36.6, {"where": "cpu"})]])
waits = meter.create_histogram("waits", unit="ms")
for wait in (1, 30, 30, 800):
    waits.record(wait)
sizes = meter.create_histogram("sizes")
for size in (1, 2, 4, 1000):
    sizes.record(size)
assert provider.force_flush()
provider.shutdown()
assert results and all(result is MetricExportResult.SUCCESS for result in results), results

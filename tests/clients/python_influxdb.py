"""Writes with python3-influxdb (Debian) or influxdb (PyPI) and reads back. Usage: python_influxdb.py PORT"""
import sys

from influxdb import InfluxDBClient

client = InfluxDBClient("127.0.0.1", int(sys.argv[1]))
client.create_database("py")
client.switch_database("py")
assert {"name": "py"} in client.get_list_database()

points = [
    {"measurement": "load", "tags": {"host": f"h{i % 10}"}, "time": (i + 1) * 1_000_000_000,
     "fields": {"value": i * 0.25, "text": f'say "{i}", ok', "even": i % 2 == 0, "n": i}}
    for i in range(1000)
]
assert client.write_points(points, batch_size=300)

rows = list(client.query("SELECT * FROM load", epoch="ns").get_points())
want = [{"time": point["time"], **point["tags"], **point["fields"]} for point in points]
assert rows == want, (rows[:3], want[:3])
assert all(type(row["n"]) is int and type(row["even"]) is bool for row in rows)

answer = client.query("SELECT mean(value) FROM load WHERE host =~ /^h[12]$/ GROUP BY host")
means = {tags["host"]: next(points)["mean"] for (_, tags), points in answer.items()}
for host, digit in (("h1", 1), ("h2", 2)):
    values = [i * 0.25 for i in range(1000) if i % 10 == digit]
    assert abs(means[host] - sum(values) / len(values)) < 1e-9, means

assert sorted(client.get_list_measurements(), key=str) == [{"name": "load"}]
print("ok")

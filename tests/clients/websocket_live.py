"""The WebSocket client of PyPI's `websockets` follows windows, is cut off, comes back with `resume`, and has every one right."""

import asyncio
import json
import sys
import time
import urllib.request

import websockets

port = sys.argv[1]
SECOND = 1_000_000_000
state, sequence = {}, None


def write(line):
    request = urllib.request.Request(f"http://127.0.0.1:{port}/write?db=d", data=line.encode())
    assert urllib.request.urlopen(request).status == 204


async def follow(enough, start):
    global sequence
    async with websockets.connect(f"ws://127.0.0.1:{port}/live") as socket:
        wanted = {"type": "subscribe", "id": "1", "db": "d", "q": "SELECT sum(v) FROM m GROUP BY time(1s), host", "from": start}
        if sequence is not None:
            wanted["resume"] = sequence
        await socket.send(json.dumps(wanted))
        while not enough():
            message = json.loads(await asyncio.wait_for(socket.recv(), 30))
            assert message["type"] in ("snapshot", "update", "final", "correction"), message
            if message["type"] == "snapshot":
                state.clear()
            for series in message["series"]:
                for at, value in series["values"]:
                    state[series["tags"]["host"], at] = value
            if not message.get("more"):
                sequence = message["sequence"]


async def main():
    start = (time.time_ns() // SECOND - 20) * SECOND
    expected = {}
    for i in range(20):
        for host in ("a", "b"):
            window = start + i % 7 * SECOND
            expected[host, window] = expected.get((host, window), 0) + i
            # Another time each: the same would be overwritten.
            write(f"m,host={host} v={i} {window + i + 1}")
        if i % 3 == 0:
            # Each is a new connection that goes on where the one before was.
            await follow(lambda: state == expected, start)
    await follow(lambda: state == expected, start)
    print("ok")


asyncio.run(main())

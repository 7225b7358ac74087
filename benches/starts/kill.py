#!/usr/bin/env python3
"""kill -9 while four connections write as fast as they can, and the start after it: how long until /health says 200, and in how much memory.

    benches/starts/kill.py KYMO FILE [--memory 256MiB] [--seconds 2.5] [--dir SCRATCH] [--port 18097]

FILE is one of gen.rs. One server at a time, of this tool's own, on a new folder; stopped at the end.
"""
import argparse, http.client, itertools, os, shutil, subprocess, threading, time

LINES, CONNECTIONS = 5000, 4


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kymo")
    parser.add_argument("file")
    parser.add_argument("--memory")
    parser.add_argument("--seconds", type=float, default=2.5)
    parser.add_argument("--dir", default="/tmp")
    parser.add_argument("--port", type=int, default=18097)
    args = parser.parse_args()
    data = os.path.join(args.dir, "kymo-starts")
    shutil.rmtree(data, ignore_errors=True)

    def start():
        off = [f"--{way}=off" for way in ("line-tcp", "line-udp", "statsd", "host-metrics")]
        memory = ["--memory", args.memory] if args.memory else []
        command = [args.kymo, "serve", "--data-dir", data, "--http", f"127.0.0.1:{args.port}", *off, *memory]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while server.poll() is None:
            try:
                if ask("GET", "/health")[0] == 200:
                    return server
            except OSError:
                pass
            time.sleep(0.005)
        raise SystemExit("the server ended")

    def ask(method, path):
        connection = http.client.HTTPConnection("127.0.0.1", args.port, timeout=30)
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    server = start()
    ask("POST", "/query?q=CREATE+DATABASE+d")
    lines, lock, acknowledged = open(args.file, "rb"), threading.Lock(), [0]

    def write():
        connection = http.client.HTTPConnection("127.0.0.1", args.port, timeout=30)
        while True:
            with lock:
                some = list(itertools.islice(lines, LINES))
            if not some:
                return
            try:
                connection.request("POST", "/write?db=d", b"".join(some))
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):
                return
            with lock:
                acknowledged[0] += len(some) if answer.status == 204 else 0

    writers = [threading.Thread(target=write) for _ in range(CONNECTIONS)]
    for writer in writers:
        writer.start()
    time.sleep(args.seconds)
    server.kill()
    server.wait()
    for writer in writers:
        writer.join()
    began = time.time()
    server = start()
    took = time.time() - began
    status = open(f"/proc/{server.pid}/status").read()
    peak = int(status.split("VmHWM:")[1].split()[0]) >> 10
    told = dict(line.rsplit(" ", 1) for line in ask("GET", "/metrics")[1].splitlines() if line and line[0] != "#")
    print(f"{acknowledged[0]} rows acknowledged; replayed {told['kymo_recovery_batches']} batches, {int(told['kymo_recovery_bytes']) >> 20} MiB; "
          f"{took:.2f} s until /health says 200, peak RSS {peak} MiB")
    server.terminate()
    server.wait()
    shutil.rmtree(data, ignore_errors=True)


main()

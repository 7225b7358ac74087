#!/usr/bin/env python3
"""Parses a peer's statements: the valid ones must parse, the invalid ones must fail with the peer's text.

  conformance_statements.py KYMO STATEMENTS.json

The file has a list of {"statement", "valid", "error"}. Names after `$` get a value that fits one of the places where
such a name may stand. Exit code 0 only if every statement does what is expected.
"""
import itertools, json, re, subprocess, sys

# What is bound to $name: the first combination that parses counts.
NAME, NUMBER, REGEX, DURATION = {"identifier": "v"}, 3, {"regex": "v"}, {"duration": "10s"}
TYPE = {"identifier": "float"}
VALUES = [NUMBER, NAME, REGEX, DURATION, TYPE]


def check(kymo, statement, params):
    done = subprocess.run([kymo, "query", "--check", "--params", json.dumps(params), "--", statement],
                          capture_output=True, text=True, timeout=60)
    error = done.stderr.removeprefix("kymo: ").split("\nhint: ")[0].rstrip("\n")
    return done.returncode == 0, error


def main():
    kymo, corpus = sys.argv[1:]
    counts = {True: [0, 0], False: [0, 0]}
    for case in json.load(open(corpus)):
        text, valid = case["statement"], case["valid"]
        names = sorted({a or b for a, b in re.findall(r'\$"([^"]+)"|\$(\w+)', text)}) if valid else []
        for values in itertools.product(VALUES, repeat=len(names)):
            parsed, error = check(kymo, text, dict(zip(names, values)))
            if parsed:
                break
        good = parsed if valid else (not parsed and error == case["error"])
        counts[valid][0] += good
        counts[valid][1] += 1
        if not good:
            print(f"FAIL {text}\n  expect {case.get('error', 'a statement')}\n  got    {'a statement' if parsed else error}")
    (good, all_good), (bad, all_bad) = counts[True], counts[False]
    print(f"statements: {good} of {all_good} valid ones parse, {bad} of {all_bad} invalid ones fail with the expected text")
    sys.exit(0 if good == all_good and bad == all_bad and all_good else 1)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Produces events with confluent-kafka (librdkafka), recounts them in a plain loop, and compares with Vigie's SQL.

    make run                                   # in one shell
    pip install confluent-kafka
    . .vigie/keys.env && python3 bench/clients/confluent.py --key demo=$VIGIE_KEY_DEMO --key acme=$VIGIE_KEY_ACME

Values are multiples of 1/1024, so that sums are exact in any order. Exit code 1 when one series and pane differs.
"""
import argparse
import collections
import json
import random
import sys
import time
import urllib.request

from confluent_kafka import Producer

parser = argparse.ArgumentParser()
parser.add_argument("--brokers", default="127.0.0.1:7092")
parser.add_argument("--topic", default="vigie.metrics.v1")
parser.add_argument("--query", default="http://127.0.0.1:7070")
parser.add_argument("--key", action="append", required=True, metavar="TENANT=KEY")
parser.add_argument("--events", type=int, default=1_000_000)
parser.add_argument("--series", type=int, default=5000)
parser.add_argument("--span", type=int, default=300, help="seconds of event time")
args = parser.parse_args()
keys = dict(k.split("=", 1) for k in args.key)
tenants = list(keys)

draw = random.Random(1)
metric = f"confluent_{int(time.time())}_seconds"
start = int(time.time()) // 60 * 60 - args.span - 60
cells = collections.defaultdict(lambda: [0, 0.0, float("inf"), float("-inf")])
values = collections.defaultdict(list)

# Java's partitioner, so that a tenant lands where other producers put it. Rollups would be right without it.
producer = Producer({"bootstrap.servers": args.brokers, "partitioner": "murmur2_random", "linger.ms": 5,
                     "enable.idempotence": True, "queue.buffering.max.messages": 1_000_000})
failed = []


def delivered(err, _):
    if err is not None:
        failed.append(err)


began = time.time()
for i in range(args.events):
    tenant = tenants[draw.randrange(len(tenants))]
    n = draw.randrange(args.series)
    at = start + draw.random() * args.span
    millis = int(at * 1000)
    value = draw.randrange(1, 1 << draw.randrange(1, 15)) / 1024
    service, instance = f"svc-{n % 10}", f"i-{n // 10}"
    cell = cells[tenant, service, instance, millis // 10_000 * 10]
    cell[0] += 1
    cell[1] += value
    cell[2] = min(cell[2], value)
    cell[3] = max(cell[3], value)
    values[tenant, service].append(value)
    event = {"tenant": tenant, "time": millis, "name": metric, "value": value, "labels": {"service": service, "instance": instance}}
    while True:
        try:
            producer.produce(args.topic, json.dumps(event, separators=(",", ":")), tenant, on_delivery=delivered)
            break
        except BufferError:
            producer.poll(0.1)
    producer.poll(0)
producer.flush()
if failed:
    sys.exit(f"{len(failed)} events were not acknowledged: {failed[0]}")
print(f"{args.events} events of {len(tenants)} tenants produced in {time.time() - began:.0f} s")


def sql(tenant, statement):
    request = urllib.request.Request(args.query + "/sql", statement.encode(), {"Authorization": "Bearer " + keys[tenant]})
    with urllib.request.urlopen(request) as answer:
        return [line.split("\t") for line in answer.read().decode().splitlines()]


want = collections.Counter()
for (tenant, *_), cell in cells.items():
    want[tenant] += cell[0]
for tenant in tenants:
    for _ in range(240):
        got = int(sql(tenant, f"SELECT sum(count) FROM api.metrics_10s WHERE metric = '{metric}'")[0][0])
        if got >= want[tenant]:
            break
        time.sleep(0.5)

wrong = rows = 0
for tenant in tenants:
    for service, instance, pane, count, total, least, most in sql(tenant, f"""
            SELECT labels['service'], labels['instance'], toUnixTimestamp(ts), count, sum, min, max
            FROM api.metrics_10s WHERE metric = '{metric}' FORMAT TSV"""):
        rows += 1
        cell = cells.pop((tenant, service, instance, int(pane)), None)
        if cell != [int(count), float(total), float(least), float(most)]:
            wrong += 1
            print("differs:", tenant, service, instance, pane, "got", count, total, least, most, "want", cell)
worst = 0.0
for tenant in tenants:
    for service, *quantiles in sql(tenant, f"""
            SELECT service, p50(sketch), p95(sketch), p99(sketch) FROM api.services_1m WHERE metric = '{metric}' GROUP BY service FORMAT TSV"""):
        exact = sorted(values[tenant, service])
        for q, got in zip((0.5, 0.95, 0.99), quantiles):
            truth = exact[int(q * (len(exact) - 1))]
            worst = max(worst, abs(float(got) - truth) / truth)
print(f"{rows} series and panes compared: {wrong} differ, {len(cells)} missing; quantiles at most {100 * worst:.3f} % off")
sys.exit(1 if wrong or cells or worst > 0.00542 else 0)

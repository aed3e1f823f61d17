"""Says which Spark drivers a gateway has to forget, one JSON object a line.

Python 3.8 and later, nothing else. Runs in a pod; elsewhere set API, CREDENTIALS
(a folder with the files token and ca.crt) and NAMESPACE.
"""
import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

CREDENTIALS = os.environ.get("CREDENTIALS", "/var/run/secrets/kubernetes.io/serviceaccount")
API = os.environ.get("API", "https://kubernetes.default.svc")
NAMESPACE = os.environ.get("NAMESPACE") or open(f"{CREDENTIALS}/namespace").read()
TLS = ssl.create_default_context(cafile=f"{CREDENTIALS}/ca.crt")


def pods(**query):
    query["labelSelector"] = "spark-role=driver"
    with open(f"{CREDENTIALS}/token") as token:  # renewed from time to time
        headers = {"Authorization": "Bearer " + token.read().strip()}
    url = f"{API}/api/v1/namespaces/{NAMESPACE}/pods?{urllib.parse.urlencode(query)}"
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers), context=TLS, timeout=330)


def seen():
    """Each driver that is there, and each that changes or is deleted."""
    with pods() as answer:
        listed = json.load(answer)
    yield from listed["items"]
    version = listed["metadata"]["resourceVersion"]
    while True:
        with pods(watch=1, timeoutSeconds=300, resourceVersion=version) as events:
            for line in events:
                event = json.loads(line)
                if event["type"] == "ERROR":  # too old: list anew
                    return
                version = event["object"]["metadata"]["resourceVersion"]
                yield event["object"]


def ended(pod):
    """Asks the status about Spark's container, and about no other: tenants cannot
    write it, unlike the record. A driver that never ran has only the phase."""
    sparks = [c["name"] for c in pod["spec"]["containers"]
              if any(e["name"] == "SPARK_DRIVER_BIND_ADDRESS" for e in c.get("env", []))]
    for status in pod["status"].get("containerStatuses", []):
        if status["name"] in sparks:
            if "terminated" in status["state"]:
                return status["state"]["terminated"]["exitCode"] != 0
            if "running" in status["state"]:
                return False
    return pod["status"].get("phase") == "Failed"


forgotten = set()
while True:
    try:
        for pod in seen():
            meta = pod["metadata"]
            record = meta.get("annotations", {})
            if "spark-vitals.io/state" in record and ended(pod) and meta["uid"] not in forgotten:
                forgotten.add(meta["uid"])
                json.dump({
                    "uid": meta["uid"],
                    "application": meta["labels"].get("spark-app-selector"),  # or your gateway's own label
                    "addresses": pod["status"].get("podIPs"),  # what you forget must be registered there
                    "reason": record.get("spark-vitals.io/reason"),
                    "message": record.get("spark-vitals.io/message"),
                }, sys.stdout)
                print(flush=True)
    except (OSError, ValueError) as problem:
        print(problem, file=sys.stderr)
        time.sleep(1)

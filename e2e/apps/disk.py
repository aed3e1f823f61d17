"""Writes a file in an executor, and leaves it there for some seconds.

disk.py PATH MIB SECONDS
"""
import sys
import time

from pyspark.sql import SparkSession

path, mib, rest = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])


def write(_):
    with open(path, "wb") as f:
        for _ in range(mib):
            f.write(b"x" * (1 << 20))
    time.sleep(rest)
    return [mib]


spark = SparkSession.builder.appName("disk").getOrCreate()
print("CONTEXT", flush=True)
print("WROTE", spark.sparkContext.parallelize([0], 1).mapPartitions(write).collect(), flush=True)
spark.stop()

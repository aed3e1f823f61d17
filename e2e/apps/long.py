"""Runs a small job every second, for some seconds.

long.py SECONDS
"""
import sys
import time

from pyspark.sql import SparkSession

spark = SparkSession.builder.appName("long").getOrCreate()
print("CONTEXT", flush=True)
end = time.time() + int(sys.argv[1])
jobs = 0
while time.time() < end:
    spark.sparkContext.parallelize(range(1000), 2).map(lambda x: x * 2).sum()
    jobs += 1
    time.sleep(1)
print("JOBS", jobs > 0, flush=True)
spark.stop()

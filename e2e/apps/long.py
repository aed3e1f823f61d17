"""Runs a number of small jobs, with a second of rest after each.

long.py JOBS
"""
import sys
import time

from pyspark.sql import SparkSession

spark = SparkSession.builder.appName("long").getOrCreate()
print("CONTEXT", flush=True)
jobs = 0
for _ in range(int(sys.argv[1])):
    spark.sparkContext.parallelize(range(1000), 2).map(lambda x: x * 2).sum()
    jobs += 1
    time.sleep(1)
print("JOBS", jobs > 0, flush=True)
spark.stop()

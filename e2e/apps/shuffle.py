"""Shuffles and joins, rests so that idle executors may leave, and does it again.

shuffle.py ROUNDS REST
"""
import sys
import time

from pyspark.sql import SparkSession
from pyspark.sql.functions import col

spark = SparkSession.builder.appName("shuffle").getOrCreate()
for round in range(int(sys.argv[1])):
    if round:
        time.sleep(int(sys.argv[2]))
    groups = spark.sparkContext.parallelize(range(20000), 8).map(lambda x: (x % 100, x)).groupByKey(8).count()
    ids = spark.range(0, 200000, 1, 8)
    joined = ids.join(ids.withColumnRenamed("id", "j"), (ids.id % 1000) == col("j")).groupBy("j").count().count()
    print("ROUND", round, groups, joined, flush=True)
spark.stop()

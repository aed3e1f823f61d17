"""Sleeps without a SparkContext, with one, and after it has stopped.

phases.py BEFORE WITH AFTER     in seconds; WITH below zero makes no SparkContext
"""
import sys
import time

before, during, after = (int(x) for x in sys.argv[1:4])


def say(phase):
    print("PHASE", phase, flush=True)


say("before")
time.sleep(before)
if during >= 0:
    from pyspark.sql import SparkSession

    spark = SparkSession.builder.appName("phases").getOrCreate()
    say("context %d" % spark.sparkContext.parallelize(range(100), 2).count())
    time.sleep(during)
    spark.stop()
    say("stopped")
time.sleep(after)
say("end")

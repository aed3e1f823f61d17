"""Runs some jobs and then hangs, in the way that its first argument says.

stall.py scheduler   the thread that schedules jobs ends; the next job finds that, so that
                     Spark stops its context, and still waits for ever
stall.py deadlock    two threads of the program wait for each other
"""
import sys
import threading
import time

from pyspark.sql import SparkSession

spark = SparkSession.builder.appName("stall").getOrCreate()


def job():
    return spark.sparkContext.parallelize(range(1000), 2).map(lambda x: x * 2).sum()


job()
print("CONTEXT", flush=True)
time.sleep(5)
if sys.argv[1] == "scheduler":
    threads = spark.sparkContext._jvm.java.lang.Thread.getAllStackTraces().keySet().iterator()
    while threads.hasNext():
        thread = threads.next()
        if thread.getName() == "dag-scheduler-event-loop":
            thread.interrupt()
    time.sleep(1)
    print("HANGS", flush=True)
    job()
elif sys.argv[1] == "deadlock":
    locks = [threading.Lock(), threading.Lock()]

    def take(first, second):
        with first:
            time.sleep(1)
            with second:
                job()

    both = [threading.Thread(target=take, args=order) for order in (locks, locks[::-1])]
    for each in both:
        each.start()
    print("HANGS", flush=True)
    for each in both:
        each.join()
print("END", flush=True)

"""Does to memory what its first argument says.

memory.py gc SECONDS      keeps it nearly full, so that the JVM does little but collect
memory.py dump            writes a heap dump of it
memory.py zombie SECONDS [WORK]
                          fills it for good and goes on, perhaps after so many seconds of work
memory.py broadcast       joins with a table too large to broadcast, and catches the error
memory.py exit CODE       ends Python with a code
memory.py collect         brings more to the driver than its heap holds
memory.py gather N        brings N times 8 MB to the JVM of the driver
memory.py rows TASKS N    makes an array of N numbers in the heap of executors, in some tasks at a time
memory.py python MIB      fills the memory of the driver's Python process
memory.py child MIB       starts a program in the driver that holds so many MiB
memory.py workers MIB     fills that of Python workers
memory.py barrier MIB      two tasks of a barrier stage, whose first attempt fills that of Python workers
memory.py profiles MIB     the same as workers, on executors of a second resource profile
memory.py skew TASKS MIB LARGE
                          Python workers hold so many MiB for some seconds, and one of them holds LARGE
memory.py held PYTHON OTHER SECONDS
                          two Python workers hold so many MiB each, one of them starts a program
                          that holds so many more, and then both workers grow at once
"""
import os
import sys
import time

from pyspark.sql import SparkSession

what, *rest = sys.argv[1:]
spark = SparkSession.builder.appName("memory").getOrCreate()
jvm = spark.sparkContext._jvm
print("CONTEXT", flush=True)


def fill(until_free, chunk):
    """Holds memory until only so many bytes are free."""
    held = jvm.java.util.ArrayDeque()
    runtime = jvm.java.lang.Runtime.getRuntime()
    while runtime.maxMemory() - runtime.totalMemory() + runtime.freeMemory() > until_free:
        held.add(jvm.java.nio.ByteBuffer.allocate(chunk))
    return held


def collecting():
    """Seconds that the JVM has spent on collecting garbage."""
    beans = jvm.java.lang.management.ManagementFactory.getGarbageCollectorMXBeans()
    return sum(b.getCollectionTime() for b in beans) / 1000


if what == "gc":
    held = fill(24 << 20, 1 << 20)
    began, collected = time.time(), collecting()
    while time.time() - began < int(rest[0]):
        try:
            for _ in range(200):
                jvm.java.nio.ByteBuffer.allocate(1 << 20)
        except Exception as e:
            print("OOM", type(e).__name__, flush=True)
            for _ in range(4):
                held.poll()
    share = (collecting() - collected) / (time.time() - began)
    held.clear()
    print("GC %.0f %% of the time" % (100 * share), flush=True)
    print("GC", share > 0.3, flush=True)
elif what == "dump":
    held = fill(96 << 20, 1 << 20)
    beans = jvm.java.lang.Class.forName("com.sun.management.HotSpotDiagnosticMXBean")
    dumper = jvm.java.lang.management.ManagementFactory.getPlatformMXBean(beans)
    began, n = time.time(), 0
    while time.time() - began < int(rest[0]):
        dumper.dumpHeap("/tmp/heap.hprof", False)
        os.remove("/tmp/heap.hprof")
        n += 1
    print("DUMPED", n, flush=True)
elif what == "zombie":
    end = time.time() + sum(int(n) for n in rest[1:])
    while time.time() < end:
        spark.sparkContext.parallelize(range(1000), 2).count()
        time.sleep(5)
    held = jvm.java.util.ArrayList()
    for chunk in (8 << 20, 64 << 10):
        try:
            while True:
                held.add(jvm.java.nio.ByteBuffer.allocate(chunk))
        except Exception as e:
            print("FILLED", chunk, flush=True)
    end = time.time() + int(rest[0])
    while time.time() < end:
        try:
            spark.sparkContext.parallelize(range(1000), 8).map(lambda x: (x, x)).groupByKey().count()
            print("JOB", flush=True)
        except Exception as e:
            print("JOB FAILED", flush=True)
        time.sleep(1)
elif what == "broadcast":
    from pyspark.sql.functions import broadcast, sha2, concat_ws, col

    wide = spark.range(0, 3000000, 1, 4).select("id", *[sha2(concat_ws("-", col("id")), 512).alias("c%d" % i) for i in range(3)])
    try:
        print("JOINED", spark.range(10).join(broadcast(wide), "id").count(), flush=True)
    except Exception as e:
        print("CAUGHT", flush=True)
    print("GOES ON", spark.range(1000).count(), flush=True)
elif what == "collect":
    spark.sparkContext.parallelize(range(100), 100).map(lambda _: b"x" * (8 << 20)).collect()
elif what == "gather":
    rows = int(rest[0])
    spark.range(0, rows, 1, rows).selectExpr("repeat('x', 8000000) AS s")._jdf.collectAsList()
elif what == "rows":
    tasks, n = int(rest[0]), int(rest[1])
    spark.range(0, tasks, 1, tasks).selectExpr("size(sequence(1, %d + id)) AS n" % n).agg({"n": "sum"}).collect()
elif what == "skew":
    tasks, small, large = (int(n) for n in rest)

    def hold(partition, _):
        held = [b"x" * (1 << 20) for _ in range(large if partition == 5 else small)]
        time.sleep(3)
        return [len(held)]

    spark.sparkContext.parallelize(range(tasks), tasks).mapPartitionsWithIndex(hold).collect()
elif what == "barrier":
    from pyspark import BarrierTaskContext

    def train(_):
        context = BarrierTaskContext.get()
        held = []
        if context.taskAttemptId() < 2:
            for _ in range(int(rest[0]) // 8):
                held.append(b"x" * (8 << 20))
                time.sleep(0.02)
        context.barrier()
        return [len(held)]

    # Spark tries only barrier stages again that end in a shuffle.
    spark.sparkContext.parallelize(range(2), 2).barrier().mapPartitions(train).map(lambda n: (n, 1)).groupByKey(2).count()
elif what in ("python", "workers", "profiles"):

    def eat(_):
        held = []
        for _ in range(int(rest[0]) // 8):
            held.append(b"x" * (8 << 20))
            time.sleep(0.02)
        return [len(held)]

    if what == "python":
        eat(None)
    elif what == "profiles":
        from pyspark.resource import ExecutorResourceRequests, ResourceProfileBuilder, TaskResourceRequests

        executors = ExecutorResourceRequests().cores(2).memory("512m").memoryOverhead("384m")
        second = ResourceProfileBuilder().require(executors).require(TaskResourceRequests().cpus(1)).build
        spark.sparkContext.parallelize(range(2), 2).map(lambda x: x).count()
        spark.sparkContext.parallelize(range(2), 2).withResources(second).mapPartitions(eat).collect()
    else:
        spark.sparkContext.parallelize(range(2), 2).mapPartitions(eat).collect()
elif what == "child":
    import subprocess

    # tail keeps what has no line break
    subprocess.run("head -c %sM /dev/zero | tail -c %sM > /dev/null" % (rest[0], rest[0]), shell=True, check=True)
elif what == "held":
    own, other, seconds = (int(n) for n in rest)

    def hold(partition, _):
        import subprocess

        held, program = [b"x" * (1 << 20) for _ in range(own)], None
        if partition == 0 and other:
            program = subprocess.Popen("head -c %dM /dev/zero | tail -c %dM | sleep 600" % (other, other), shell=True)
        time.sleep(seconds)
        held.append(b"x" * (2 << 30))

    spark.sparkContext.parallelize(range(2), 2).mapPartitionsWithIndex(hold).count()
elif what == "exit":
    spark.stop()
    sys.exit(int(rest[0]))
spark.stop()
print("END", flush=True)

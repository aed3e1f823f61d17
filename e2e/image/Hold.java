package e2e;

import java.io.InputStream;
import java.lang.management.BufferPoolMXBean;
import java.lang.management.ManagementFactory;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Paths;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import org.apache.spark.SparkConf;
import org.apache.spark.SparkEnv;
import org.apache.spark.TaskContext;
import org.apache.spark.api.java.JavaSparkContext;
import org.apache.spark.memory.MemoryConsumer;
import org.apache.spark.memory.MemoryMode;
import org.apache.spark.memory.TaskMemoryManager;
import org.apache.spark.unsafe.Platform;

/**
 * Lets the JVM of an executor hold so many MiB of the memory that the first argument names. The
 * driver says what the executor then holds, by the JVM's own figures. After some seconds the
 * executor takes native memory until the kernel ends it.
 *
 * <p>With the first argument "tasks", each of so many tasks holds native memory for some seconds.
 */
public class Hold extends ClassLoader {
  private static final List<Object> HELD = Collections.synchronizedList(new ArrayList<>());
  private static final CountDownLatch OFF_HEAP = new CountDownLatch(1);
  private static final String LARGE = "org/apache/spark/sql/catalyst/parser/SqlBaseParser.class";

  public static void main(String[] args) throws Exception {
    String what = args[0];
    int mib = Integer.parseInt(args[1]);
    int seconds = Integer.parseInt(args[2]); // or how many tasks
    JavaSparkContext context = new JavaSparkContext(new SparkConf());
    System.out.println("CONTEXT " + context.sc().applicationId());
    List<Integer> one = Collections.singletonList(0);
    if (what.equals("tasks")) {
      context.parallelize(Collections.nCopies(seconds, 0), seconds).foreach(x -> holdForSeconds(mib));
      context.stop();
      return;
    }
    if (what.equals("offHeap")) {
      context.parallelize(one, 1).foreachAsync(x -> offHeap(mib));
    }
    System.out.println("HELD " + context.parallelize(one, 1).map(x -> hold(what, mib)).collect().get(0));
    try {
      context.parallelize(one, 1).foreach(x -> {
        Thread.sleep(seconds * 1000L);
        while (true) {
          nativeMemory(64);
        }
      });
    } catch (Exception e) {
      System.out.println("LOST");
      Thread.sleep(60_000); // a program that goes on
    }
  }

  private static String hold(String what, int mib) throws Exception {
    System.gc();
    switch (what) {
      case "heap":
        for (int i = 0; i < 4 * mib; i++) {
          HELD.add(new byte[256 << 10]); // not so large that a collector treats them in another way
        }
        System.gc();
        nativeMemory(600);
        return say("heapMiB", ManagementFactory.getMemoryMXBean().getHeapMemoryUsage().getUsed());
      case "metaspace":
        byte[] large;
        try (InputStream in = Hold.class.getClassLoader().getResourceAsStream(LARGE)) {
          large = in.readAllBytes();
        }
        for (long before = metaspace(); metaspace() < before + ((long) mib << 20); ) {
          HELD.add(new Hold().defineClass(null, large, 0, large.length));
        }
        return say("metaspaceMiB", metaspace());
      case "direct":
        for (int i = 0; i < mib; i++) {
          HELD.add(ByteBuffer.allocateDirect(1 << 20));
        }
        long direct = 0;
        for (BufferPoolMXBean pool : ManagementFactory.getPlatformMXBeans(BufferPoolMXBean.class)) {
          direct += pool.getMemoryUsed();
        }
        return say("directMiB", direct);
      case "offHeap":
        OFF_HEAP.await();
        return say("offHeapMiB", SparkEnv.get().memoryManager().offHeapExecutionMemoryUsed());
      default:
        throw new IllegalArgumentException(what);
    }
  }

  /** Executes in memory of spark.memory.offHeap.size, which ends with its task. */
  private static void offHeap(int mib) throws InterruptedException {
    TaskMemoryManager memory = TaskContext.get().taskMemoryManager();
    new MemoryConsumer(memory, memory.pageSizeBytes(), MemoryMode.OFF_HEAP) {
      @Override
      public long spill(long bytes, MemoryConsumer asks) {
        return 0;
      }
    }.allocateArray((long) mib << 17).zeroOut();
    OFF_HEAP.countDown();
    Thread.sleep(Long.MAX_VALUE);
  }

  private static void holdForSeconds(int mib) throws InterruptedException {
    long at = Platform.allocateMemory((long) mib << 20);
    Platform.setMemory(at, (byte) 1, (long) mib << 20);
    Thread.sleep(3000);
    Platform.freeMemory(at);
  }

  private static void nativeMemory(int mib) {
    Platform.setMemory(Platform.allocateMemory((long) mib << 20), (byte) 1, (long) mib << 20);
  }

  private static long metaspace() {
    return ManagementFactory.getMemoryMXBean().getNonHeapMemoryUsage().getUsed();
  }

  /** Returns an amount, and the resident memory of this JVM. */
  private static String say(String name, long bytes) throws Exception {
    for (String line : Files.readAllLines(Paths.get("/proc/self/status"))) {
      if (line.startsWith("VmRSS:")) {
        return String.format("{\"%s\": %d, \"jvmMiB\": %d}", name, bytes >> 20, Long.parseLong(line.replaceAll("\\D", "")) >> 10);
      }
    }
    throw new IllegalStateException("/proc/self/status has no VmRSS");
  }
}

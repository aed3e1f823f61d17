package e2e;

import java.util.concurrent.CountDownLatch;
import org.apache.spark.SparkConf;
import org.apache.spark.api.java.JavaSparkContext;

/** Makes a SparkContext and then hangs in the way that its first argument says. */
public class Hang {
  private static final Object FIRST = new Object();
  private static final Object SECOND = new Object();

  public static void main(String[] args) throws Exception {
    JavaSparkContext context = new JavaSparkContext(new SparkConf());
    System.out.println("CONTEXT " + context.sc().applicationId());
    System.out.println("HANGS");
    switch (args[0]) {
      case "deadlock":
        deadlock();
        break;
      case "lock":
        lock();
        break;
      case "scheduler":
        Thread.sleep(20_000); // an executor that registers later would find it dead, and stop the context
        stop("dag-scheduler-event-loop");
        Thread.sleep(Long.MAX_VALUE);
        break;
      default:
        throw new IllegalArgumentException(args[0]);
    }
  }

  /** The main thread and another one wait for each other. */
  private static void deadlock() throws InterruptedException {
    CountDownLatch held = new CountDownLatch(1);
    start("other", () -> take(SECOND, FIRST, held));
    synchronized (FIRST) {
      held.await();
      take(SECOND, SECOND, held);
    }
  }

  private static void take(Object outer, Object inner, CountDownLatch held) {
    synchronized (outer) {
      held.countDown();
      synchronized (inner) {
        System.out.println("not reached");
      }
    }
  }

  /** The main thread waits for a lock that another one holds for ever. */
  private static void lock() throws InterruptedException {
    CountDownLatch held = new CountDownLatch(1);
    start("holder", () -> {
      synchronized (FIRST) {
        held.countDown();
        try {
          Thread.sleep(Long.MAX_VALUE);
        } catch (InterruptedException e) {
          Thread.currentThread().interrupt();
        }
      }
    });
    held.await();
    synchronized (FIRST) {
      System.out.println("not reached");
    }
  }

  private static void stop(String name) {
    for (Thread thread : Thread.getAllStackTraces().keySet()) {
      if (thread.getName().equals(name)) {
        thread.interrupt();
      }
    }
  }

  private static void start(String name, Runnable does) {
    Thread thread = new Thread(does, name);
    thread.setDaemon(true);
    thread.start();
  }
}

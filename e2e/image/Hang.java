package e2e;

import java.io.IOException;
import java.net.InetAddress;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import org.apache.spark.SparkConf;
import org.apache.spark.api.java.JavaSparkContext;
import org.apache.spark.scheduler.SparkListener;
import org.apache.spark.scheduler.SparkListenerJobEnd;

/** Makes a SparkContext and then hangs in the way that its first argument says. */
public class Hang {
  private static final Object FIRST = new Object();
  private static final Object SECOND = new Object();
  private static final List<Socket> REQUESTS = new ArrayList<>();

  public static void main(String[] args) throws Exception {
    JavaSparkContext context = new JavaSparkContext(new SparkConf());
    System.out.println("CONTEXT " + context.sc().applicationId());
    if (!args[0].equals("ui") && !args[0].equals("heap")) {
      System.out.println("HANGS");
    }
    switch (args[0]) {
      case "deadlock":
        deadlock();
        break;
      case "lock":
        lock();
        break;
      case "ui":
        ui(Integer.parseInt(context.getConf().get("spark.ui.port", "4040")));
        Thread.sleep(Long.MAX_VALUE);
        break;
      case "heap":
        heap(context);
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

  /** All threads of the UI wait in a filter that never answers. */
  private static void ui(int port) throws IOException {
    InetAddress here = InetAddress.getByName(System.getenv().getOrDefault("SPARK_LOCAL_IP", "127.0.0.1"));
    for (int i = 0; i < 220; i++) {
      Socket socket = new Socket(here, port); // few may wait to be accepted, so this may take seconds
      REQUESTS.add(socket);
      socket.getOutputStream().write("GET /jobs/ HTTP/1.1\r\nHost: driver\r\n\r\n".getBytes(StandardCharsets.US_ASCII));
    }
    System.out.println("HANGS");
  }

  /** A listener fills the heap, so Spark stops its context, and the program goes on. */
  private static void heap(JavaSparkContext context) throws InterruptedException {
    context.sc().addSparkListener(new SparkListener() {
      @Override
      public void onJobEnd(SparkListenerJobEnd end) {
        List<byte[]> held = new ArrayList<>();
        while (true) {
          held.add(new byte[1 << 20]);
        }
      }
    });
    for (int i = 0; i < 70; i++) { // the UI gives data meanwhile
      System.out.println("WORKS");
      Thread.sleep(1000);
    }
    context.parallelize(Collections.singletonList(0), 1).count();
    while (!context.sc().isStopped()) {
      Thread.sleep(100);
    }
    System.out.println("HANGS");
    while (true) {
      System.out.println("GOES ON");
      Thread.sleep(1000);
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

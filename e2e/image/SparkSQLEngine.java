package org.apache.kyuubi.engine.spark;

import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import org.apache.spark.SparkConf;
import org.apache.spark.api.java.JavaSparkContext;

/**
 * Stands in for Kyuubi's engine: a driver of its main class, with a SparkContext, that after some
 * seconds takes more memory than its container may have.
 */
public class SparkSQLEngine {
  public static void main(String[] args) throws InterruptedException {
    JavaSparkContext context = new JavaSparkContext(new SparkConf());
    System.out.println("CONTEXT " + context.sc().applicationId());
    Thread.sleep(Long.parseLong(args[0]) * 1000);
    List<ByteBuffer> held = new ArrayList<>();
    while (true) {
      ByteBuffer buffer = ByteBuffer.allocateDirect(16 << 20);
      for (int i = 0; i < buffer.capacity(); i += 4096) {
        buffer.put(i, (byte) 1);
      }
      held.add(buffer);
    }
  }
}

package org.apache.kyuubi.engine.spark;

import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import org.apache.spark.SparkConf;
import org.apache.spark.api.java.JavaSparkContext;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.ZooDefs.Ids;
import org.apache.zookeeper.ZooKeeper;

/**
 * Stands in for Kyuubi's engine: a driver of its main class, with a SparkContext, that registers in
 * ZooKeeper by itself and keeps its session alive, takes its registration away when it gets
 * SIGTERM, and after some seconds takes more memory than its container may have.
 */
public class SparkSQLEngine {
  public static void main(String[] args) throws Exception {
    SparkConf conf = new SparkConf();
    JavaSparkContext context = new JavaSparkContext(conf);
    register(conf, context.sc().applicationId());
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

  private static void register(SparkConf conf, String application) throws Exception {
    int timeout = conf.getInt("spark.kyuubi.ha.zookeeper.session.timeout", 60000);
    ZooKeeper session = new ZooKeeper(conf.get("spark.kyuubi.ha.addresses"), timeout, event -> {});
    StringBuilder space = new StringBuilder();
    for (String step : conf.get("spark.kyuubi.ha.namespace").substring(1).split("/")) {
      try {
        session.create(space.append('/').append(step).toString(), new byte[0], Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
      } catch (KeeperException.NodeExistsException e) {
        // Another engine of this space was first.
      }
    }
    String node =
        "/serverUri=" + System.getenv("SPARK_DRIVER_BIND_ADDRESS") + ":44057;version=1.12.0"
            + ";spark.driver.memory=" + conf.get("spark.driver.memory", "1g")
            + ";kyuubi.engine.id=" + application
            + ";refId=" + conf.get("spark.kyuubi.ha.engine.ref.id") + ";sequence=";
    session.create(space + node, new byte[0], Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL_SEQUENTIAL);
    Runtime.getRuntime().addShutdownHook(new Thread(() -> {
      try {
        session.close();
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
      }
    }));
  }
}

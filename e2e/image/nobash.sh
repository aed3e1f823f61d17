#!/bin/sh
# The entrypoint of an image without bash. Spark's own scripts are bash, so the
# JVM is started without them.
set -e
opens=$(for p in lang lang.invoke lang.reflect io net nio util util.concurrent util.concurrent.atomic; do printf -- '--add-opens=java.base/java.%s=ALL-UNNAMED ' $p; done)
opens="$opens --add-opens=java.base/sun.nio.ch=ALL-UNNAMED --add-opens=java.base/sun.nio.cs=ALL-UNNAMED --add-opens=java.base/sun.security.action=ALL-UNNAMED --add-opens=java.base/sun.util.calendar=ALL-UNNAMED --add-opens=java.base/jdk.internal.ref=ALL-UNNAMED"
classpath="$SPARK_CONF_DIR:$SPARK_HOME/jars/*:$PWD"
case "$1" in
driver)
  shift
  exec tini -s -- java $opens -XX:+IgnoreUnrecognizedVMOptions -Xmx512m -cp "$classpath" org.apache.spark.deploy.SparkSubmit \
    --conf "spark.driver.bindAddress=$SPARK_DRIVER_BIND_ADDRESS" --deploy-mode client "$@" ;;
executor)
  exec tini -s -- java $(env | sed -n 's/^SPARK_JAVA_OPT_[^=]*=//p') "-Xms$SPARK_EXECUTOR_MEMORY" "-Xmx$SPARK_EXECUTOR_MEMORY" -cp "$classpath" \
    org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend \
    --driver-url "$SPARK_DRIVER_URL" --executor-id "$SPARK_EXECUTOR_ID" --cores "$SPARK_EXECUTOR_CORES" \
    --app-id "$SPARK_APPLICATION_ID" --hostname "$SPARK_EXECUTOR_POD_IP" \
    --resourceProfileId "$SPARK_RESOURCE_PROFILE_ID" --podName "$SPARK_EXECUTOR_POD_NAME" ;;
*) exec "$@" ;;
esac

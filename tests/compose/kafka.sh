#!/bin/bash
# What /etc/kafka/docker/run of the image comes to.
set -euo pipefail

kafka() { exec /opt/java/bin/java -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp '/opt/kafka/libs/*' "$@"; }

[[ -w /opt/kafka/config ]] || { echo "/opt/kafka/config cannot be written"; exit 1; }
told=$(kafka kafka.docker.KafkaDockerWrapper setup --default-configs-dir /etc/kafka/docker \
  --mounted-configs-dir /mnt/shared/config --final-configs-dir /opt/kafka/config 2>&1) || {
  [[ $told == *"already formatted"* ]] || { echo "$told"; exit 1; }
}
# As kafka-server-start.sh: without a word on it, garbage collection is logged to a file.
collection=
[[ " ${EXTRA_ARGS--name kafkaServer -loggc} " != *" -loggc "* ]] ||
  collection=-Xlog:gc:file=/opt/kafka/logs/kafkaServer-gc.log
# shellcheck disable=SC2086 # several options in one variable, or none
kafka ${KAFKA_HEAP_OPTS:-} $collection \
  -Dlog4j2.configurationFile=/opt/kafka/config/log4j2.yaml kafka.Kafka /opt/kafka/config/server.properties

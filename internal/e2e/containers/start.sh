#!/usr/bin/env bash
# KAFKA_NODE_ID=1 becomes node.id=1, and so on; then format and start.
set -euo pipefail
env | sed -n 's/^KAFKA_//p' | while IFS='=' read -r name value; do
  echo "$(tr 'A-Z_' 'a-z.' <<<"$name")=$value"
done >/tmp/server.properties
java=(java -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp '/opt/kafka/libs/*')
cluster=MkU3OEVBNTcwNTJENDM2Qg
"${java[@]}" kafka.tools.StorageTool format --ignore-formatted -t "$cluster" -c /tmp/server.properties
exec "${java[@]}" kafka.Kafka /tmp/server.properties

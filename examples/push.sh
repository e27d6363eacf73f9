#!/bin/sh
# Provision a device, push a command to it, and see what became of it: nothing but curl.
#
#   imlink gateway                  in another terminal
#   examples/push.sh lamp-17
set -eu

device=${1:?usage: push.sh DEVICE}
url=${IMLINK_URL:-http://127.0.0.1:8080}
token=${IMLINK_TOKEN:-$(cat "${XDG_STATE_HOME:-$HOME/.local/state}/imlink/token")}

ask() { curl --silent --show-error --fail-with-body -H "authorization: Bearer $token" "$@"; echo; }

echo "# provision"
ask -X PUT -H 'content-type: application/json' --data '{"proof":"plain"}' "$url/v1/devices/$device"

echo "# send one byte; it is stored until the device acknowledges it"
answer=$(printf '\001' | ask -H 'content-type: application/octet-stream' --data-binary @- \
    -H "idempotency-key: push-$$-$(date +%s)" "$url/v1/devices/$device/messages/led/set?ttl=3600")
echo "$answer"

echo "# what became of it: waiting, sent, acked, rejected, expired, cancelled, failed or unknown"
id=$(printf '%s' "$answer" | sed 's/.*"id":"\([^"]*\)".*/\1/')
ask "$url/v1/devices/$device/messages/$id"

echo "# events as they come, for 3 s"
curl --silent --no-buffer --max-time 3 -H "authorization: Bearer $token" "$url/v1/events?devices=$device" || test $? = 28

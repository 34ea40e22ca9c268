# Answers `ID COMMAND-IN-BASE64` with `ID STATUS OUTPUT-IN-BASE64`, one line each, on a virtio-serial port.
# Runs in the guest as the unit larder-test.service; both come as credentials, the image knows nothing of them.
port=/dev/virtio-ports/larder.test
until [ -e "$port" ]; do sleep 1; done
exec 3<>"$port"
printf '\nhello %s\n' "$(cat /proc/sys/kernel/random/boot_id)" >&3
while read -r id command <&3; do
    printf %s "$command" | base64 -d >/run/larder-test.sh
    sh /run/larder-test.sh </dev/null >/run/larder-test.out 2>&1 3<&-
    status=$?
    printf '%s %s %s\n' "$id" "$status" "$(base64 -w0 /run/larder-test.out)" >&3
done

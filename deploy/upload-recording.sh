#!/bin/sh
# A hook that uploads a finished recording with rclone and lets the rig's retention delete it later:
#   service:
#     hooks:
#       - name: upload
#         on: [recording_finished]
#         command: [/usr/local/bin/upload-recording.sh, "s3:rigs"]
#         timeout_s: 3600
# Facts come as variables; nothing of them is ever run.
set -eu
remote=$1
video=${LUMITHERM_FILE:?no file in this event}
rig=$(hostname)
for suffix in mkv jsonl md; do
    part="${video%.mkv}.$suffix"
    if [ -f "$part" ]; then
        rclone copyto --checksum --retries 3 -- "$part" "$remote/$rig/$(basename -- "$part")"
    fi
done

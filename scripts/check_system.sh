#!/usr/bin/env bash
# Looks for the system libraries that the Python packages do not bring, and prints the one apt line that adds them.
# Missing libraries that only some tests or the window need are named, and do not stop anything else.
set -u

# Asked of the loader by name: what PyQt6 needs to start, drawing or not.
needed=()
declare -A package=(
  [libGL.so.1]=libgl1
  [libEGL.so.1]=libegl1
  [libxkbcommon.so.0]=libxkbcommon0
  [libdbus-1.so.3]=libdbus-1-3
  [libfontconfig.so.1]=libfontconfig1
  [libglib-2.0.so.0]=libglib2.0-0
)
libraries=$( (ldconfig -p 2>/dev/null || /sbin/ldconfig -p) )
for library in "${!package[@]}"; do
  grep -q -F "$library" <<<"$libraries" || needed+=("${package[$library]}")
done

# Only on a display (xcb), and only for some tests: a missing one is a note, not a failure.
optional=()
declare -A display=(
  [libxcb-cursor.so.0]=libxcb-cursor0
  [libxcb-icccm.so.4]=libxcb-icccm4
  [libxcb-keysyms.so.1]=libxcb-keysyms1
  [libxcb-shape.so.0]=libxcb-shape0
  [libxkbcommon-x11.so.0]=libxkbcommon-x11-0
)
for library in "${!display[@]}"; do
  grep -q -F "$library" <<<"$libraries" || optional+=("${display[$library]}")
done
command -v Xvfb >/dev/null 2>&1 || optional+=(xvfb xdotool)
/usr/bin/python3 -c 'import gi; gi.require_version("GstRtspServer", "1.0")' >/dev/null 2>&1 ||
  optional+=(python3-gi gir1.2-gst-rtsp-server-1.0 gir1.2-gstreamer-1.0
    gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly)
command -v chromium >/dev/null 2>&1 || command -v google-chrome >/dev/null 2>&1 || optional+=(chromium)
PATH="$PATH:/usr/sbin" command -v mosquitto >/dev/null 2>&1 || optional+=(mosquitto)
command -v promtool >/dev/null 2>&1 || optional+=(prometheus)
command -v openssl >/dev/null 2>&1 || optional+=(openssl)

if [ "${#optional[@]}" -gt 0 ]; then
  echo "Note: the window on a display and the tests against real servers and a real browser also want:"
  echo "  sudo apt-get install -y --no-install-recommends ${optional[*]}"
fi
if [ "${#needed[@]}" -gt 0 ]; then
  echo "System libraries are missing. Install them and run make again:" >&2
  echo "  sudo apt-get install -y --no-install-recommends ${needed[*]}" >&2
  exit 1
fi

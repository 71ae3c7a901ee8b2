"""Which USB camera is which: by serial number if it has a sound one, else by the port it is plugged into."""

from __future__ import annotations

import re
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from fusion_core.errors import CameraLost, ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from app.capture.cameras.uri import CameraUri

__all__ = ["DeviceRecord", "Identity", "find_device", "identify", "list_devices", "record_from_udev"]

_PLACEHOLDER: Final = re.compile(
    r"(?i)0*1?|(sn)?0+1|1234567890?|0123456789(abcdef)?|200901010001|20\d{6}|n/?a|none|unknown"
)
"""Serial numbers that factories put into every camera."""
_ID_PATH: Final = re.compile(
    r"(?:pci|platform)-(?P<controller>.+)-usb(?:v\d)?-\d+:(?P<port>[\d.]+):(?P<interface>\d+\.\d+)"
)


@dataclass(frozen=True, slots=True)
class DeviceRecord:
    """One V4L2 capture node as the system describes it.

    port: controller and position, as V4L2's bus_info says it (usb-0000:00:14.0-2); empty for devices that are not USB.
    interface: of the USB device; tells the two nodes of a two-picture camera apart.
    """

    node: str
    name: str
    serial: str = ""
    by_id: tuple[str, ...] = ()
    port: str = ""
    interface: str = ""
    usb_id: str = ""
    driver: str = ""


@dataclass(frozen=True, slots=True)
class Identity:
    """The URI under which a device is found again, and why that one."""

    uri: str
    reason: str


def record_from_udev(properties: Mapping[str, str]) -> DeviceRecord | None:
    """A record from the properties of a video4linux device in udev; None for nodes that do not capture (metadata)."""
    if ":capture:" not in properties.get("ID_V4L_CAPABILITIES", ":capture:"):
        return None
    found = _ID_PATH.search(properties.get("ID_PATH", ""))
    links = [PurePosixPath(link) for link in properties.get("DEVLINKS", "").split()]
    usb_id = f"{properties.get('ID_VENDOR_ID', '')}:{properties.get('ID_MODEL_ID', '')}"
    return DeviceRecord(
        node=properties["DEVNAME"],
        name=properties.get("ID_V4L_PRODUCT") or properties.get("ID_MODEL", "unnamed camera"),
        serial=properties.get("ID_SERIAL_SHORT", "").strip(),
        by_id=tuple(sorted(link.name for link in links if link.parent.name == "by-id")),
        port=f"usb-{found['controller']}-{found['port']}" if found else "",
        interface=found["interface"] if found else "",
        usb_id=usb_id.strip(":"),
        driver=properties.get("ID_USB_DRIVER", ""),
    )


def list_devices() -> list[DeviceRecord]:
    """All V4L2 capture devices that are connected now, by node; empty on other systems than Linux."""
    if sys.platform != "linux":
        return []
    import pyudev

    context = pyudev.Context()
    records = (record_from_udev(dict(device.properties)) for device in context.list_devices(subsystem="video4linux"))
    return sorted((record for record in records if record is not None), key=lambda record: _natural(record.node))


def identify(record: DeviceRecord, everything: Sequence[DeviceRecord]) -> Identity:
    """How to name this device so that neither a changed cable nor the order at boot makes it another one."""
    same_serial = Counter(other.serial for other in everything)[record.serial]
    if record.serial and not _PLACEHOLDER.fullmatch(record.serial) and same_serial == 1:
        return Identity(f"v4l2:serial={record.serial}", "it has a serial number of its own; any port will do")
    if not record.serial:
        why = "it has no serial number"
    elif same_serial > 1:
        why = f"{same_serial} devices say they are serial number {record.serial}"
    else:
        why = f"its serial number {record.serial} is a factory's placeholder"
    if record.port:
        return Identity(f"v4l2:port={_port_name(record, everything)}", f"{why}; keep it in this port")
    if record.by_id:
        return Identity(f"v4l2:by-id={record.by_id[0]}", f"{why} and is not on USB; named by its link")
    return Identity("", f"{why}, no USB port and no link in /dev/v4l/by-id: it cannot be named safely")


def find_device(uri: CameraUri, everything: Sequence[DeviceRecord]) -> DeviceRecord:
    """The connected device that a v4l2 URI names.

    Raises:
        CameraLost: none; it may be plugged in later.
        ConfigError: more than one.
    """
    matching = [record for record in everything if _matches(uri, record)]
    if len(matching) == 1:
        return matching[0]
    shown = f"v4l2:{uri.key}={uri.target}"
    if not matching:
        present = ", ".join(identify(record, everything).uri or record.node for record in everything) or "none"
        raise CameraLost(f"{shown} is not connected; connected: {present}. `lumitherm devices` says more")
    better = ", ".join(f"{identify(record, everything).uri} ({record.name})" for record in matching)
    raise ConfigError(f"{shown} is {len(matching)} devices, must be one; choose {better}")


def _matches(uri: CameraUri, record: DeviceRecord) -> bool:
    if uri.key == "serial":
        return record.serial == uri.target
    if uri.key == "by-id":
        return PurePosixPath(uri.target).name in record.by_id
    return uri.target in {name for name in (record.port, f"{record.port}:{record.interface}") if record.port}


def _port_name(record: DeviceRecord, everything: Sequence[DeviceRecord]) -> str:
    alone = sum(other.port == record.port for other in everything) == 1
    return record.port if alone else f"{record.port}:{record.interface}"


def _natural(text: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", text)]

"""Archive tasks on a Ray cluster. Ray is an optional extra and imported here, when asked for, and nowhere else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from app.jobs.archive import Runner
from app.jobs.archive_item import ItemResult, ItemTask, fuse_item
from fusion_core.errors import RunError, UsageError

__all__ = ["ray_runner"]

_WAIT_S = 0.5


def ray_runner(address: str | None = None) -> Runner:
    """Tasks as Ray tasks, each asking for as many CPUs as it has threads. All nodes must see the files at one path.

    Args:
        address: of the cluster ("auto", "ray://host:10001"); None starts Ray on this machine.

    Raises:
        UsageError: Ray is not installed. RunError: there is no cluster there.
    """
    try:
        import ray
    except ImportError as error:
        raise UsageError(
            f"--ray needs Ray, which is not installed here ({error}); pip install 'lumitherm[ray]', or leave --ray away"
        ) from error

    def run(tasks: Sequence[ItemTask], take: Callable[[ItemResult], None], stop: threading.Event) -> None:
        started = not ray.is_initialized()
        try:
            ray.init(address=address, ignore_reinit_error=True, log_to_driver=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise RunError(f"no Ray cluster at {address or 'this machine'}: {error}") from error
        try:
            _run(ray, tasks, take, stop)
        finally:
            if started:
                ray.shutdown()

    return run


def _run(ray: Any, tasks: Sequence[ItemTask], take: Callable[[ItemResult], None], stop: threading.Event) -> None:
    remote = ray.remote(max_retries=1)(fuse_item)
    running = {remote.options(num_cpus=task.threads or 1, name=task.name).remote(task): task for task in tasks}
    try:
        while running and not stop.is_set():
            ready, _ = ray.wait(list(running), num_returns=1, timeout=_WAIT_S)
            for reference in ready:
                task = running.pop(reference)
                try:
                    result: ItemResult = ray.get(reference)
                except ray.exceptions.RayError as error:
                    text = " ".join(str(error).split())[:500]
                    result = ItemResult(task.name, task.key, "failed", error=f"the Ray task died: {text}")
                take(result)
    finally:
        for reference in running:
            ray.cancel(reference, force=True)

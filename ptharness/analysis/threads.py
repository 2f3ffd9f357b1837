"""Matrix products on one core: on a busy machine more threads only wait for each other."""

from __future__ import annotations

from contextlib import AbstractContextManager


def on_one_core() -> AbstractContextManager[object]:
    """Within, BLAS uses one thread.

    Products here are small or bound by memory, so a second core gains little where it is idle;
    where it is not, BLAS spins and everything takes four times as long.
    """
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[object] = threadpool_limits(limits=1, user_api="blas")
    return limits
